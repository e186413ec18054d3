"""Linear quantile regression, several levels at once."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from framework.baselines.linear.base import Linear, Penalised, gram_of, outputs, standard
from framework.baselines.linear.fista import soft
from framework.baselines.linear.newton import vanishes
from framework.types import LEVELS, Arr


@dataclass(frozen=True)
class Quantile(Penalised):
    """Minimises sum of w (pinball loss) + penalty (l1_ratio |b|₁ + (1 - l1_ratio) |b|² / 2) for each level.

    Lines of different levels may cross: a row's answers are sorted, which only brings them nearer to the truth
    (Chernozhukov, Fernández-Val & Galichon 2010). Solved by the alternating direction method of multipliers until
    residuals, the target in units of its spread, are below `tolerance`. What is missing counts as 0.
    """

    levels: tuple[float, ...] = LEVELS
    penalty: float | Float[Arr, ""] = 1.0
    l1_ratio: float = 0.0
    tolerance: float = 1e-5
    steps: int = 5_000
    classes: int = 0
    UNSOLVED = "quantile regression did not converge; give more `steps`, or a larger penalty"

    def path(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        penalties: Float[Arr, " k"],
    ) -> Linear:
        """The fits for all penalties on a leading axis, all at once."""
        with jax.default_matmul_precision("highest"):
            recipe = (tuple(self.levels), self.l1_ratio, self.tolerance, self.steps)
            return _path(*recipe, x, observed, y, weight, penalties)

    def predict(self, params: Linear, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        return jnp.sort(outputs(params, x, observed), axis=1)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _path(
    levels: tuple, l1_ratio: float, tolerance: float, steps: int, x: Arr, observed: Arr, y: Arr, weight: Arr, penalties
) -> Linear:
    table = standard(x, observed, weight)
    target = jnp.where(weight > 0, y, 0).astype(table.z.dtype)
    middle = (table.share * target).sum()
    spread = jnp.sqrt((table.share * (target - middle) ** 2).sum())
    spread = jnp.where(spread > 0, spread, 1)
    target = jnp.where(weight > 0, (target - middle) / spread, 0)
    level = jnp.asarray(levels, table.z.dtype)

    def fit(penalty: Array) -> Linear:
        # the loss is divided by the spread as well: b is measured in spreads of y and of x
        l1 = jnp.full_like(table.scale, penalty * l1_ratio) / table.total / table.scale
        l2 = penalty * (1 - l1_ratio) * spread / table.total / table.scale**2
        intercept, coef, solved = _admm(table.z, target, table.share, level, l1, l2, tolerance, steps)
        return table.back(middle + spread * intercept, spread * coef, solved)

    return jax.vmap(fit)(penalties)


def _admm(
    z: Array, target: Array, share: Array, level: Array, l1: Array, l2: Array, tolerance: float, steps: int
) -> tuple[Array, Array, Array]:
    """Intercepts and coefficients (f, l), and whether they are the solution's; residuals and coefficients each have a
    copy that bears the kinks.

    Boyd et al. 2011, §3: rows are weighted by their share in the quadratic terms too, so that one factorisation serves
    all levels and steps. Over-relaxed by 1.6; `stiff` is the multiplier's step, in units in which y has spread 1.
    """
    stiff, relaxed = 1.0, 1.6
    values, vectors = jnp.linalg.eigh(gram_of(z, share) + jnp.diag(1e-3 + l2 / stiff))
    inverse = (vectors / jnp.maximum(values, 1e-6)) @ vectors.T

    def pinball(at: Array) -> Array:
        """Proximal operator of the loss: residuals moved towards 0, from above by level, from below by 1 - level."""
        return at - jnp.clip(at * stiff, level - 1, level) / stiff

    def move(state: tuple) -> tuple:
        rest, kept, dual, pull, _, _, _, step = state
        goal = target[:, None] - rest + dual
        intercept = (share[:, None] * goal).sum(0)
        coef = inverse @ (z.T @ (share[:, None] * goal) + 1e-3 * (kept - pull))
        left = target[:, None] - intercept - z @ coef
        mixed = relaxed * left + (1 - relaxed) * rest
        new = pinball(mixed + dual)
        mixed_coef = relaxed * coef + (1 - relaxed) * kept
        held = soft(mixed_coef + pull, l1[:, None] / (1e-3 * stiff))
        change = jnp.sqrt((share[:, None] * ((new - rest) ** 2 + (left - new) ** 2)).sum(0).max())
        gap = jnp.maximum(jnp.abs(held - kept).max(initial=0), jnp.abs(held - coef).max(initial=0))
        off = jnp.maximum(change, gap)
        return new, held, dual + mixed - new, pull + mixed_coef - held, intercept, coef, off, step + 1

    rows, columns = jnp.zeros((len(z), len(level)), z.dtype), jnp.zeros((z.shape[1], len(level)), z.dtype)
    start = (rows, columns, rows, columns, columns[:1].sum(0), columns, jnp.array(jnp.inf, z.dtype), jnp.array(0))
    found = lax.while_loop(lambda s: (s[-2] > tolerance) & (s[-1] < steps), move, start)
    return found[4], jnp.where((l1 > 0)[:, None], found[1], found[5]), vanishes(found[6], tolerance)
