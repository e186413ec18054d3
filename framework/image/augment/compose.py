"""Transforms one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import jax
from jaxtyping import Array, Key

from framework.configurable import configurable
from framework.image.augment.base import Transform
from framework.image.augment.space import Warp, sample
from framework.types import Scans


@configurable("augment")
@dataclass(frozen=True)
class Compose:
    """Transforms in order, each with a key of its own.

    Warps that follow each other are one: the scan is read once, where all of them lead, and blurred once.
    """

    transforms: Sequence[Transform]

    def __post_init__(self):
        object.__setattr__(self, "transforms", tuple(self.transforms))  # hashable, as compiled functions must be

    def __call__(self, scans: Scans, key: Key[Array, ""], place: int = 0) -> Scans:
        """Scans of the modality number `place`: what is drawn for each scan differs from modality to modality."""
        keys = jax.random.split(key, len(self.transforms))
        own = [
            jax.random.fold_in(one, place) if place and transform.same == "scan" else one
            for transform, one in zip(self.transforms, keys, strict=True)
        ]
        for warps, run in groupby(zip(self.transforms, own, strict=True), lambda pair: isinstance(pair[0], Warp)):
            if warps:
                scans = replace(scans, voxels=sample(scans, [(t, one) for t, one in run if isinstance(t, Warp)]))
                continue
            for transform, one in run:
                scans = replace(scans, voxels=transform(scans, one))
        return scans
