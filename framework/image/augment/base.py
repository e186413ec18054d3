"""The interface of variations of training scans."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Shaped

from framework.configurable import configurable
from framework.errors import UserError
from framework.types import Scans

SAME = ("subject", "scan")


@configurable("transform")
class Transform(ABC):
    """One way to vary scans, redrawn at every step.

    `same` says for whom a draw holds: "subject", all visits and modalities of one, so that change over time stays
    what it was; or "scan", each for itself.
    """

    same: str

    def __post_init__(self):
        if self.same not in SAME:
            raise UserError(f"{type(self).__name__}.same is {self.same!r}; expected one of {list(SAME)}")

    @abstractmethod
    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        """The voxels, varied. An axis one voxel long is none: there a scan is an image."""

    def draw(
        self, sample: Callable[..., Array], scans: Scans, key: Key[Array, ""], shape: tuple[int, ...] = ()
    ) -> Shaped[Array, "n ..."]:
        """`sample(key, shape)` for each scan, alike for all of a subject where `same` says so."""
        if self.same == "scan":
            return sample(key, (len(scans.row), *shape))
        return jax.vmap(lambda row: sample(jax.random.fold_in(key, row), shape))(jnp.asarray(scans.row))

    def _within(self, low: float, high: float = float("inf"), **settings: float) -> None:
        for name, value in settings.items():
            if not low <= value <= high:
                raise UserError(f"{type(self).__name__}.{name} is {value:g}; expected {low:g} to {high:g}")
