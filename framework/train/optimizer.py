"""AdamW with everything a sweep varies as an array."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from framework.types import pytree


@pytree
class Dynamic:
    """What may differ between models trained as one program; arrays, so that it can be vmapped."""

    learning_rate: Float[Array, "..."]
    weight_decay: Float[Array, "..."]
    dropout: Float[Array, "..."]
    target_weights: Float[Array, "... k"]


def transform(clip: float) -> optax.GradientTransformation:
    """The direction of a step, before learning rate and decay: clipped gradients through Adam (Kingma & Ba 2015)."""
    return optax.chain(optax.clip_by_global_norm(clip), optax.scale_by_adam())


def rate(dynamic: Dynamic, step: Int[Array, ""], warmup: int, steps: int) -> Float[Array, ""]:
    """Linear warm-up, then half a cosine down to a twentieth."""
    ramp = jnp.minimum(1.0, (step + 1) / max(warmup, 1))
    done = jnp.clip((step - warmup) / max(steps - warmup, 1), 0, 1)
    return dynamic.learning_rate * ramp * (0.05 + 0.95 * 0.5 * (1 + jnp.cos(jnp.pi * done)))


def move(params: PyTree, direction: PyTree, rate: Float[Array, ""], weight_decay: Float[Array, ""]) -> PyTree:
    """Decoupled weight decay (Loshchilov & Hutter 2019) on matrices and kernels, not on biases and scales."""

    def one(p: Array, d: Array) -> Array:
        return p - rate * (d + (weight_decay * p if p.ndim > 1 else 0))

    return jax.tree.map(one, params, direction)
