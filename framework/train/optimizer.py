"""AdamW with traced hyperparameters, and schedules of its learning rate."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from framework.configurable import configurable
from framework.errors import UserError
from framework.types import pytree


@pytree
class TracedHyperparameters:
    """Hyperparameters that may differ between models trained as one program; arrays, so that they can be vmapped."""

    learning_rate: Float[Array, "..."]
    weight_decay: Float[Array, "..."]
    dropout: Float[Array, "..."]
    target_weights: Float[Array, "... k"]
    max_grad_norm: Float[Array, "..."]


@configurable("schedule")
class Schedule(ABC):
    """Schedule of the learning rate."""

    @abstractmethod
    def __call__(self, done: Float[Array, ""]) -> Float[Array, ""]:
        """Return the factor of the full rate at a fraction `done` of training after the warm-up."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The full rate to the end."""

    def __call__(self, done: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.ones_like(done)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine down to a share `floor` of the rate (Loshchilov & Hutter 2017)."""

    floor: float

    def __post_init__(self):
        _share("floor", self.floor)

    def __call__(self, done: Float[Array, ""]) -> Float[Array, ""]:
        return self.floor + (1 - self.floor) * 0.5 * (1 + jnp.cos(jnp.pi * done))


@dataclass(frozen=True)
class Trapezoid(Schedule):
    """The full rate until the last share `decay` of training, then straight down to 0 (Zhai et al. 2022)."""

    decay: float

    def __post_init__(self):
        _share("decay", self.decay)

    def __call__(self, done: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.minimum(1.0, (1 - done) / max(self.decay, 1e-9))


@configurable("optimizer")
@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2019) of gradients clipped to a global norm of `max_grad_norm`.

    The rate rises for `warmup` steps, then follows `schedule` to the last step.
    """

    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    warmup: int
    schedule: Schedule

    def __post_init__(self):
        if self.max_grad_norm <= 0:
            raise UserError(
                f"training.optimizer.max_grad_norm is {self.max_grad_norm}; expected a gradient norm above 0"
            )

    def over(self, steps: int) -> "AdamWUpdate":
        """Return the update of one step in a training of `steps`."""
        return AdamWUpdate(self.warmup, steps, self.schedule)


@dataclass(frozen=True)
class AdamWUpdate:
    """Update of one step: gradients clipped to a global norm, through Adam (Kingma & Ba 2015), decay apart from them.

    The rate rises for `warmup` steps, then follows `schedule` to step number `steps`.
    """

    warmup: int
    steps: int
    schedule: Schedule

    def initial(self, params: PyTree) -> PyTree:
        """The momenta before the first step."""
        return self._direction.init(params)

    def update(
        self, gradients: PyTree, momenta: PyTree, params: PyTree, step: Int[Array, ""], dynamic: TracedHyperparameters
    ) -> tuple[PyTree, PyTree]:
        """Parameters and momenta after step number `step`, counted from 0."""
        # a norm that is an array, as optax's is not
        shorter = jnp.minimum(1.0, dynamic.max_grad_norm / jnp.maximum(optax.tree.norm(gradients), 1e-30))
        direction, momenta = self._direction.update(jax.tree.map(lambda g: shorter * g, gradients), momenta)
        rate = self.rate(step, dynamic)

        def move(p: Array, d: Array) -> Array:
            # decoupled decay (Loshchilov & Hutter 2019) on matrices and kernels, not on biases and scales
            return p - rate * (d + (dynamic.weight_decay * p if p.ndim > 1 else 0))

        return jax.tree.map(move, params, direction), momenta

    def rate(self, step: Int[Array, ""], dynamic: TracedHyperparameters) -> Float[Array, ""]:
        """The learning rate of step number `step`."""
        ramp = jnp.minimum(1.0, (step + 1) / max(self.warmup, 1))
        done = jnp.clip((step - self.warmup) / max(self.steps - self.warmup, 1), 0, 1)
        return dynamic.learning_rate * ramp * self.schedule(done)

    @property
    def _direction(self) -> optax.GradientTransformation:
        return optax.scale_by_adam()


def averaged(average: PyTree, params: PyTree, step: Int[Array, ""], decay: float) -> PyTree:
    """An exponential moving average of the parameters one step on.

    The first steps weigh more, (1 + t) / (10 + t) for `decay`, so that the start is soon forgotten.
    """
    kept = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: old + (1 - kept) * (new - old), average, params)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"training.optimizer.schedule.{name} is {value}; expected a share from 0 to 1")
