"""Frozen encoders: each scan is encoded once."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, PyTree

from framework.nn.encoders.base import Encoder
from framework.nn.model import encoded
from framework.types import Layout, Scans, Visits


class Embeddings:
    """Encoders that learn no more, a modality each; what they say of a scan is kept in memory by its content.

    Every scan is encoded by itself, so that its embedding is the same in whatever company it comes.
    """

    def __init__(self, encoders: Mapping[str, Encoder]):
        self.sizes = {name: encoder.out_features for name, encoder in encoders.items()}
        parts = {name: nnx.split(encoder) for name, encoder in encoders.items()}
        self.weights: dict[str, PyTree] = {name: weights for name, (_, weights) in parts.items()}
        self._encode = {name: _encoding(graph) for name, (graph, _) in parts.items()}
        self._kept: dict[tuple[str, bytes], np.ndarray] = {}

    def __len__(self) -> int:
        """How many scans have been encoded so far."""
        return len(self._kept)

    def layout(self, layout: Layout) -> Layout:
        """The layout with an embedding in the place of each scan."""
        return replace(layout, grids=tuple((1, 1, 1, self.sizes[name]) for name in layout.modalities))

    def of(self, modality: str, voxels: Float[np.ndarray, "x y z c"]) -> Float[np.ndarray, "1 1 1 d"]:
        """A prepared scan, embedded: encoded at the first asking."""
        content = (modality, hashlib.blake2b(voxels.tobytes(), digest_size=16).digest())
        if content not in self._kept:
            scan = voxels.reshape(1, *encoded(voxels.shape))
            embedding = self._encode[modality](self.weights[modality], scan)
            self._kept[content] = np.asarray(embedding).reshape(1, 1, 1, -1)
        return self._kept[content]

    def visits(self, visits: Visits) -> Visits:
        """Histories with an embedding in the place of each scan."""
        return replace(visits, scans={name: self._scans(name, scans) for name, scans in visits.scans.items()})

    def _scans(self, modality: str, scans: Scans) -> Scans:
        voxels, valid = np.asarray(scans.voxels), np.asarray(scans.valid)
        embedded = np.zeros((len(valid), 1, 1, 1, self.sizes[modality]), np.float32)
        for slot in np.flatnonzero(valid):
            embedded[slot] = self.of(modality, voxels[slot])
        return replace(scans, voxels=embedded)


def _encoding(graph: nnx.GraphDef):
    @jax.jit
    def encode(weights: PyTree, scan: Float[Array, "1 *space c"]) -> Float[Array, "1 d"]:
        return nnx.merge(graph, weights)(scan)

    return encode
