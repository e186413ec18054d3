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

DTYPES = ("float32", "bfloat16")


@configurable("memory")
@dataclass(frozen=True)
class MemoryOptions:
    """Memory options of encoders; their parameters, and all other parts of a model, stay float32.

    `compute_dtype` is the type of their arithmetic. With `remat_chunk` they take so many scans at a time and keep none
    of their activations for the backward pass, which recomputes them (Chen et al. 2016).
    """

    compute_dtype: str
    remat_chunk: int | None

    def __post_init__(self):
        if self.compute_dtype not in DTYPES:
            raise UserError(f"training.memory.compute_dtype is {self.compute_dtype!r}; expected one of {list(DTYPES)}")
        if self.remat_chunk is not None and self.remat_chunk < 1:
            raise UserError(
                f"training.memory.remat_chunk is {self.remat_chunk}; expected 1 scan or more, or null for all"
            )

    def __call__(self, model: Model) -> Model:
        """Return the same model, its encoders with these options."""
        if self.compute_dtype != "float32" or self.remat_chunk is not None:
            for name, encoder in list(model.encoders.items()):
                model.encoders[name] = _Sparing(encoder, jnp.dtype(self.compute_dtype), self.remat_chunk)
        return model


class _Sparing(Encoder):
    def __init__(self, encoder: Encoder, kind: jnp.dtype, remat_chunk: int | None):
        self.encoder, self.kind, self.remat_chunk = encoder, kind, remat_chunk
        self.out_features = encoder.out_features

    def __call__(self, voxels: Float[Array, "n *space c"]) -> Float[Array, "n d"]:
        graph, state = nnx.split(self.encoder)

        def encode(state: PyTree, voxels: Array) -> Array:
            model = nnx.merge(graph, jax.tree.map(self._cast, state))
            return model(self._cast(voxels)).astype(jnp.float32)

        count = voxels.shape[0]
        if self.remat_chunk is None:
            return encode(state, voxels)
        padded = jnp.pad(voxels, [(0, -count % self.remat_chunk), *[(0, 0)] * (voxels.ndim - 1)])
        groups = padded.reshape(-1, self.remat_chunk, *voxels.shape[1:])
        made = jax.lax.map(lambda group: jax.checkpoint(encode)(state, group), groups)
        return made.reshape(-1, made.shape[-1])[:count]

    def _cast(self, x: Array) -> Array:
        return x.astype(self.kind) if jnp.issubdtype(x.dtype, jnp.floating) else x
