"""Linear mixed effects: each subject's level and trend around the population's.

y = X b + Z u + e with u ~ N(0, G) for each subject and e ~ N(0, s²) for each visit. With G = s² L L' the likelihood
depends on L alone once b and s² are put at their best (Bates et al. 2015, §3); everything about a subject then needs
only M = I + L'Z'Z L, as small as its effects are few.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from framework.baselines.linear.newton import newton
from framework.types import Arr, pytree

GUARD = 1e-5  # the share added to the diagonal of the fixed effects' normal equations: some may be redundant
FLOOR = 1e-10  # of the mean square left over, so that outcomes predicted without error have a likelihood
LEAST = 1e-3  # the least standard deviation of the noise, in spreads of the outcome: below it a variance has collapsed


@pytree
class Mixed:
    """Fixed effects b, L, the variance s² (at least `LEAST`² of the outcome's), and H with H'H the fixed effects'
    covariance over s²; whether the likelihood is at its maximum, and whether the variance would have fallen below.

    Kept as a root because it is large where columns are redundant (age and time): products with the whole would be
    differences of large numbers.
    """

    fixed: Float[Array, "*m p"]
    root: Float[Array, "*m r r"]
    variance: Float[Array, "*m"]
    doubt: Float[Array, "*m p p"]
    converged: Bool[Array, "*m"]
    collapsed: Bool[Array, "*m"]

    @property
    def covariance(self) -> Float[Array, "*m r r"]:
        """Covariance of the subjects' random effects, G."""
        return self.variance[..., None, None] * self.root @ jnp.swapaxes(self.root, -1, -2)


@partial(jax.jit, static_argnames=("restricted", "tolerance", "steps"))
def fit(
    x: Float[Arr, "n t p"],
    z: Float[Arr, "n t r"],
    y: Float[Arr, "n t"],
    seen: Bool[Arr, "n t"],
    weight: Float[Arr, " n"],
    *,
    restricted: bool = True,
    tolerance: float = 1e-6,
    steps: int = 100,
) -> Mixed:
    """The (restricted) maximum of the likelihood; what is not `seen`, and subjects of weight zero, are not read.

    Columns of X and Z, and y, should be of unit spread. Newton's method, until no component of the gradient per
    observation exceeds `tolerance`.
    """
    seen = seen & (weight > 0)[:, None]
    x, z = (jnp.where(seen[..., None], part, 0) for part in (x, z))
    y, weight = jnp.where(seen, y, 0), jnp.where(weight > 0, weight, 0)
    count, effects, lower = (weight[:, None] * seen).sum(), z.shape[-1], jnp.tril_indices(z.shape[-1])

    def root(at: Array) -> Array:
        return jnp.zeros((effects, effects), at.dtype).at[lower].set(at)

    def solved(at: Array) -> tuple[Array, Array, Array, Array]:
        """b, the factor of its normal equations, the squares left over, and log |M| of all subjects."""
        zl = z @ root(at)
        inner = jnp.linalg.cholesky(_inner(zl))

        def whitened(part: Array) -> tuple[Array, Array]:
            own = jax.vmap(lambda factor, right: jax.scipy.linalg.cho_solve((factor, True), right))(
                inner, jnp.einsum("ntr,ntp->nrp", zl, part)
            )
            return part - jnp.einsum("ntr,nrp->ntp", zl, own), own

        def product(one: tuple[Array, Array], other: tuple[Array, Array]) -> Array:
            """A' V⁻¹ B over s⁻², as a sum of products that none cancels."""
            pairs = zip(one, other, strict=True)
            return jnp.stack([jnp.einsum("n,nap,naq->pq", weight, a, b) for a, b in pairs]).sum(0)

        columns = whitened(x)
        normal = product(columns, columns)
        factor = jnp.linalg.cholesky(normal + jnp.diag(GUARD * jnp.diag(normal) + FLOOR))

        def better(fixed: Array) -> Array:
            left = whitened(y[..., None] - jnp.where(seen[..., None], x @ fixed, 0))
            return fixed + jax.scipy.linalg.cho_solve((factor, True), product(columns, left))

        fixed = better(better(jnp.zeros((x.shape[-1], 1), y.dtype)))
        left = whitened(y[..., None] - x @ fixed)
        log = (weight * 2 * jnp.log(jnp.diagonal(inner, axis1=1, axis2=2)).sum(1)).sum()
        return fixed[:, 0], factor, product(left, left)[0, 0], log

    free = jnp.maximum(count - (x.shape[-1] if restricted else 0), 1)

    def criterion(at: Array) -> Array:
        """-2 log likelihood per observation, up to a constant."""
        _, factor, squares, log = solved(at)
        more = 2 * jnp.log(jnp.diagonal(factor)).sum() if restricted else 0
        return (log + more + free * jnp.log(squares + FLOOR * jnp.maximum(count, 1))) / jnp.maximum(count, 1)

    with jax.default_matmul_precision("highest"):
        at, converged = newton(criterion, jnp.eye(effects, dtype=y.dtype)[lower], lambda right: right, tolerance, steps)
        fixed, factor, squares, _ = solved(at)
        half = jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(factor), dtype=y.dtype), lower=True)
        mean = jnp.einsum("n,nt->", weight, y) / jnp.maximum(count, 1)
        spread = jnp.einsum("n,nt->", weight, jnp.where(seen, (y - mean) ** 2, 0)) / jnp.maximum(count, 1)
        variance, least = squares / free, LEAST**2 * jnp.where(spread > 0, spread, 1)
        # without noise the likelihood has no maximum to be found: what counts then is that the variance collapsed
        collapsed = ~(variance >= least)
        return Mixed(fixed, root(at), jnp.maximum(variance, least), half, converged | collapsed, collapsed)


def own_effects(
    model: Mixed, x: Float[Arr, "t p"], z: Float[Arr, "t r"], y: Float[Arr, " t"], seen: Bool[Arr, " t"]
) -> tuple[Float[Array, " r"], Float[Array, "r r"], Float[Array, "r p"]]:
    """Return a subject's expected effects given its observations, their covariance over s², and minus their derivative
    with respect to the fixed effects: 0, G and 0 for a subject without observations.
    """
    x, z = (jnp.where(seen[:, None], part, 0) for part in (x, z))
    zl = z @ model.root
    inner = jnp.linalg.inv(_inner(zl[None])[0])
    gain = model.root @ inner @ zl.T
    left = jnp.where(seen, y, 0) - x @ model.fixed
    return gain @ jnp.where(seen, left, 0), model.root @ inner @ model.root.T, gain @ x


def conditional(
    model: Mixed,
    x: Float[Arr, "t p"],
    z: Float[Arr, "t r"],
    y: Float[Arr, " t"],
    seen: Bool[Arr, " t"],
    x_asked: Float[Arr, " p"],
    z_asked: Float[Arr, " r"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and variance of an observation to come, given what was seen: noise, and effects in doubt."""
    effect, spread, shift = own_effects(model, x, z, y, seen)
    off = model.doubt @ (x_asked - z_asked @ shift)
    variance = 1 + z_asked @ spread @ z_asked + off @ off
    return jnp.asarray(x_asked @ model.fixed + z_asked @ effect), model.variance * variance


def _inner(zl: Array) -> Array:
    return jnp.einsum("ntr,nts->nrs", zl, zl) + jnp.eye(zl.shape[-1], dtype=zl.dtype)
