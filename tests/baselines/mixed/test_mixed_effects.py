import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from statsmodels.regression.mixed_linear_model import MixedLM

from framework.baselines.mixed import mixed_effects
from framework.baselines.mixed.mixed_effects import conditional, own_effects

fit = jax.jit(mixed_effects.fit)


def simulated(balanced: bool, subjects: int = 80, visits: int = 6):
    """Subjects with a level and a trend of their own; unbalanced ones come when they like and miss some."""
    rng = np.random.default_rng(int(balanced))
    shape = (subjects, visits)
    times = np.tile(np.arange(visits) * 0.5, (subjects, 1)) if balanced else np.sort(rng.uniform(0, 4, shape), 1)
    times = times - times.mean()
    own = rng.multivariate_normal([0, 0], [[1.0, 0.3], [0.3, 0.4]], subjects)
    sex = np.broadcast_to(rng.integers(0, 2, (subjects, 1)), shape)
    y = 1 + 0.5 * sex + own[:, :1] + (own[:, 1:] - 0.8) * times + rng.normal(0, 0.5, shape)
    seen = np.ones(shape, bool) if balanced else rng.random(shape) > 0.3
    x = np.stack([np.ones(shape), times, sex], -1)
    return x, x[..., :2], y, seen


@pytest.fixture(scope="module", params=[True, False], ids=["balanced", "unbalanced"])
def both(request):
    x, z, y, seen = simulated(request.param)
    single = [part.astype(np.float32) for part in (x, z, y)]
    ours = fit(*single, seen, np.ones(len(y), np.float32))
    who = np.broadcast_to(np.arange(len(y))[:, None], y.shape)[seen]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = MixedLM(y[seen], x[seen], who, z[seen]).fit(reml=True, gtol=1e-10)
    return ours, theirs, (*single, seen)


def test_fixed_effects_and_variances_are_those_of_statsmodels(both):
    ours, theirs, _ = both
    np.testing.assert_allclose(ours.fixed, theirs.fe_params, rtol=1e-3)
    np.testing.assert_allclose(ours.covariance, theirs.cov_re, rtol=1e-3)
    np.testing.assert_allclose(ours.variance, theirs.scale, rtol=1e-3)


def test_own_effects_and_forecasts_are_those_of_statsmodels(both):
    ours, theirs, (x, z, y, seen) = both
    effects, spread, _ = jax.jit(jax.vmap(own_effects, (None, 0, 0, 0, 0)))(ours, x, z, y, seen)
    scale = np.sqrt(np.diag(theirs.cov_re))
    expected = np.array([np.asarray(theirs.random_effects[i]) for i in range(len(y))])
    np.testing.assert_allclose(effects / scale, expected / scale, rtol=1e-3, atol=1e-3)
    covariances = np.array([np.asarray(theirs.random_effects_cov[i]) for i in range(len(y))])
    np.testing.assert_allclose(ours.variance * spread, covariances, rtol=2e-3, atol=1e-4)
    x_asked, z_asked = np.array([1, 3, 1], np.float32), np.array([1, 3], np.float32)
    mean, _ = jax.jit(jax.vmap(conditional, (None, 0, 0, 0, 0, None, None)))(ours, x, z, y, seen, x_asked, z_asked)
    np.testing.assert_allclose(mean, x_asked @ theirs.fe_params + expected @ z_asked, rtol=1e-3, atol=2e-3)


def test_the_conditional_is_that_of_the_joint_normal():
    """Against the covariance matrix of everything written out, in float64, the fixed effects known to be in doubt."""
    x, z, y, seen = simulated(False)
    model = fit(*(part.astype(np.float32) for part in (x, z, y)), seen, np.ones(len(y), np.float32))
    g, s2 = np.asarray(model.covariance, float), float(model.variance)
    x_asked, z_asked = np.array([1.0, 2.5, 1]), np.array([1.0, 2.5])
    mean, variance = jax.jit(conditional)(
        model,
        *(p[3].astype(np.float32) for p in (x, z, y)),
        seen[3],
        x_asked.astype(np.float32),
        z_asked.astype(np.float32),
    )
    xs, zs, ys = (part[3][seen[3]] for part in (x, z, y))
    v = zs @ g @ zs.T + s2 * np.eye(len(ys))
    cross = z_asked @ g @ zs.T @ np.linalg.inv(v)
    b = np.asarray(model.fixed, float)
    normal = sum(
        x[i][k].T @ np.linalg.solve(z[i][k] @ g @ z[i][k].T + s2 * np.eye(k.sum()), x[i][k]) for i, k in enumerate(seen)
    )
    off = x_asked - cross @ xs
    np.testing.assert_allclose(mean, x_asked @ b + cross @ (ys - xs @ b), rtol=1e-4, atol=1e-4)
    expected = s2 + z_asked @ g @ z_asked - cross @ zs @ g @ z_asked + off @ np.linalg.inv(normal) @ off
    np.testing.assert_allclose(variance, expected, rtol=1e-3)


def test_random_intercepts_alone_and_no_spread_between_subjects():
    x, z, y, seen = simulated(True)
    data = pd.DataFrame({"y": y.ravel(), "who": np.repeat(np.arange(len(y)), y.shape[1])})
    x, z, y = (part.astype(np.float32) for part in (x, z, y))
    ours = fit(x, z[..., :1], y, seen, np.ones(len(y), np.float32))
    theirs = MixedLM(data["y"], x.reshape(-1, 3).astype(float), data["who"]).fit()
    np.testing.assert_allclose(ours.covariance[0, 0], theirs.cov_re.to_numpy()[0, 0], rtol=1e-3)
    noise = np.random.default_rng(0).normal(size=y.shape).astype(np.float32)
    noise = noise - noise.mean(1, keepdims=True)
    alone = fit(x, z[..., :1], noise, seen, np.ones(len(y), np.float32))
    np.testing.assert_allclose(alone.covariance[0, 0], 0, atol=1e-3)


def test_subjects_that_weigh_nothing_and_what_is_masked_are_not_read_and_lanes_are_fits():
    x, z, y, seen = (part.astype(np.float32) if part.dtype != bool else part for part in simulated(False))
    weight = (np.arange(len(y)) % 3 > 0).astype(np.float32)
    told = seen & (weight > 0)[:, None]
    loud = [np.where(told[..., None] if p.ndim == 3 else told, p, np.nan).astype(np.float32) for p in (x, z, y)]
    before, after = fit(x, z, y, seen, weight), fit(*loud, seen | (weight == 0)[:, None], weight)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    lanes = jax.jit(jax.vmap(lambda y, w: fit(x, z, y, seen, w)))(np.stack([y, 2 * y + 1]), np.stack([weight, weight]))
    np.testing.assert_allclose(lanes.fixed[0], before.fixed, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(lanes.covariance[1], 4 * before.covariance, rtol=2e-3, atol=1e-3)
