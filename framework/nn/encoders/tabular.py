"""Clinical variables as features: numbers standardised, classes one-hot, absence a mask."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from framework.nn.layers import Statistic
from framework.types import Arr, Column


class Tabular(nnx.Module):
    """Features of a table of columns; its means and scales are fitted on the training subjects."""

    def __init__(self, columns: tuple[Column, ...]):
        self.columns = columns
        self.out_features = sum(max(1, column.classes) for column in columns)
        self.mean = Statistic(jnp.zeros(len(columns)))
        self.scale = Statistic(jnp.ones(len(columns)))

    def __call__(
        self, values: Float[Arr, "... f"], observed: Bool[Arr, "... f"]
    ) -> tuple[Float[Array, "... d"], Bool[Array, "... d"]]:
        """Features and which of them were observed, both 0 where nothing was."""
        features, masks = [jnp.zeros((*values.shape[:-1], 0))], [jnp.zeros((*values.shape[:-1], 0), bool)]
        for place, column in enumerate(self.columns):
            value, mask = values[..., column.index], observed[..., column.index, None]
            if column.classes:
                feature = jax.nn.one_hot(value.astype(int), column.classes)
            else:
                feature = ((value - self.mean[...][place]) / self.scale[...][place])[..., None]
            features.append(jnp.where(mask, feature, 0))
            masks.append(jnp.broadcast_to(mask, feature.shape))
        return jnp.concatenate(features, axis=-1), jnp.concatenate(masks, axis=-1)
