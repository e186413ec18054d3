"""Encoders that need less memory: arithmetic in fewer bits, and rematerialised activations."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from framework.configurable import configurable
from framework.errors import UserError
from framework.nn.encoders.base import Encoder
from framework.nn.model import Model

KINDS = ("float32", "bfloat16")


@configurable("economy")
@dataclass(frozen=True)
class Economy:
    """Memory options of encoders; their parameters, and all other parts of a model, stay float32.

    `compute` is the type of their arithmetic. With `at_once` they take so many scans at a time and keep none of
    their activations for the backward pass, which recomputes them (Chen et al. 2016).
    """

    compute: str
    at_once: int | None

    def __post_init__(self):
        if self.compute not in KINDS:
            raise UserError(f"optimizer.economy.compute is {self.compute!r}; expected one of {list(KINDS)}")
        if self.at_once is not None and self.at_once < 1:
            raise UserError(f"optimizer.economy.at_once is {self.at_once}; expected 1 scan or more, or null for all")

    def __call__(self, model: Model) -> Model:
        """Return the same model, its encoders with these options."""
        if self.compute != "float32" or self.at_once is not None:
            for name, encoder in list(model.encoders.items()):
                model.encoders[name] = _Sparing(encoder, jnp.dtype(self.compute), self.at_once)
        return model


class _Sparing(Encoder):
    def __init__(self, encoder: Encoder, kind: jnp.dtype, at_once: int | None):
        self.encoder, self.kind, self.at_once = encoder, kind, at_once
        self.out_features = encoder.out_features

    def __call__(self, voxels: Float[Array, "n *space c"]) -> Float[Array, "n d"]:
        graph, state = nnx.split(self.encoder)

        def encode(state: PyTree, voxels: Array) -> Array:
            model = nnx.merge(graph, jax.tree.map(self._cast, state))
            return model(self._cast(voxels)).astype(jnp.float32)

        count = voxels.shape[0]
        if self.at_once is None:
            return encode(state, voxels)
        padded = jnp.pad(voxels, [(0, -count % self.at_once), *[(0, 0)] * (voxels.ndim - 1)])
        groups = padded.reshape(-1, self.at_once, *voxels.shape[1:])
        made = jax.lax.map(lambda group: jax.checkpoint(encode)(state, group), groups)
        return made.reshape(-1, made.shape[-1])[:count]

    def _cast(self, x: Array) -> Array:
        return x.astype(self.kind) if jnp.issubdtype(x.dtype, jnp.floating) else x
