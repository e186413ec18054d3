"""The embeddings of a visit's scans brought together, whichever of its modalities are there."""

from abc import abstractmethod
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.configurable import configurable
from framework.nn.layers import Dense


@configurable("fusion")
class Fusion(nnx.Module):
    """Makes of each visit's embeddings, one a modality, `out_features` numbers and which of them are known.

    Built as `Fusion(..., sizes=(d, ...), rngs=...)`: the configuration first, then the size of each modality's
    embedding. What a modality that is not present embeds to is never read.
    """

    out_features: int

    @abstractmethod
    def __call__(
        self, embedded: Sequence[Float[Array, "b t _"]], present: Bool[Array, "b t m"]
    ) -> tuple[Float[Array, "b t d"], Bool[Array, "b t d"]]: ...


class Concatenate(Fusion):
    """Side by side, each with its own mask."""

    def __init__(self, *, sizes: Sequence[int], rngs: nnx.Rngs):
        self.out_features = sum(sizes)

    def __call__(
        self, embedded: Sequence[Float[Array, "b t _"]], present: Bool[Array, "b t m"]
    ) -> tuple[Float[Array, "b t d"], Bool[Array, "b t d"]]:
        masks = [jnp.broadcast_to(present[..., m, None], e.shape) for m, e in enumerate(embedded)]
        return jnp.concatenate(embedded, -1), jnp.concatenate(masks, -1)


class Weighted(Fusion):
    """One vector a visit: the mean of what is present, each modality brought to `features` numbers of its own."""

    def __init__(self, features: int, *, sizes: Sequence[int], rngs: nnx.Rngs):
        self.out_features = features
        self.projections = nnx.List([Dense(size, features, rngs=rngs) for size in sizes])

    def __call__(
        self, embedded: Sequence[Float[Array, "b t _"]], present: Bool[Array, "b t m"]
    ) -> tuple[Float[Array, "b t d"], Bool[Array, "b t d"]]:
        projected = jnp.stack([p(e) for p, e in zip(self.projections, embedded, strict=True)], axis=2)
        projected = jnp.where(present[..., None], projected, 0)
        fused = jnp.einsum("btm,btmd->btd", self.weights(projected, present), projected)
        return fused, jnp.broadcast_to(present.any(-1, keepdims=True), fused.shape)

    @abstractmethod
    def weights(self, projected: Float[Array, "b t m d"], present: Bool[Array, "b t m"]) -> Float[Array, "b t m"]:
        """How much each modality counts: 0 where it is not present, 1 in all where any is."""


class Mean(Weighted):
    """All that are present count alike."""

    def weights(self, projected: Float[Array, "b t m d"], present: Bool[Array, "b t m"]) -> Float[Array, "b t m"]:
        return present / jnp.maximum(present.sum(-1, keepdims=True), 1)


class Attention(Weighted):
    """Each counts by what it says: attention pooling, Eq. 8 of Ilse, Tomczak & Welling 2018."""

    def __init__(self, features: int, *, sizes: Sequence[int], rngs: nnx.Rngs):
        super().__init__(features, sizes=sizes, rngs=rngs)
        self.inner, self.outer = Dense(features, features, rngs=rngs), Dense(features, 1, gain=0.0, rngs=rngs)

    def weights(self, projected: Float[Array, "b t m d"], present: Bool[Array, "b t m"]) -> Float[Array, "b t m"]:
        score = self.outer(jnp.tanh(self.inner(projected)))[..., 0]
        return jnp.where(present, jax.nn.softmax(jnp.where(present, score, -1e9), axis=-1), 0)
