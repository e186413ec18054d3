import jax
import numpy as np
import pytest
from sklearn import datasets
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import mean_pinball_loss

from framework.baselines.linear.quantile import Quantile

KEY = jax.random.key(0)


def table(name):
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    return x.astype(np.float32), np.ones(x.shape, bool), y.astype(np.float32)


@pytest.mark.parametrize("penalty", [0.0, 20.0, 200.0])
def test_the_loss_is_scikit_learns(penalty):
    x, seen, y = table("diabetes")
    weight = np.random.default_rng(0).integers(0, 3, len(y)).astype(np.float32)
    model = Quantile((0.1, 0.5, 0.9), penalty, l1_ratio=1.0)
    params = model.fit(x, seen, y, weight, key=KEY)
    for at, level in enumerate(model.levels):
        reference = QuantileRegressor(quantile=level, alpha=penalty / weight.sum()).fit(x, y, sample_weight=weight)

        def objective(told, coef, level=level):
            return (
                mean_pinball_loss(y, told, alpha=level, sample_weight=weight)
                + penalty / weight.sum() * np.abs(coef).sum()
            )

        ours = objective(x @ params.coef[:, at] + params.intercept[at], params.coef[:, at])
        assert ours <= objective(reference.predict(x), reference.coef_) * (1 + 1e-3)


def test_a_squared_penalty_has_its_optimum():
    """No small step in any direction lowers the objective beyond rounding."""
    x, seen, y = table("diabetes")
    params = Quantile((0.25,), 3.0).fit(x, seen, y, np.ones(len(y), np.float32), key=KEY)
    b = np.concatenate([params.intercept, params.coef[:, 0]]).astype(float)
    rng = np.random.default_rng(0)

    def objective(b):
        error = y - x @ b[1:] - b[0]
        return np.maximum(0.25 * error, -0.75 * error).sum() + 1.5 * (b[1:] ** 2).sum()

    least = min(objective(b + size * rng.normal(size=len(b))) for size in (0.03, 0.3, 3) for _ in range(200))
    assert objective(b) <= least * (1 + 2e-4)


def test_answers_ascend_and_cover_as_often_as_they_say():
    x, seen, y = table("diabetes")
    model = Quantile(penalty=1.0)
    params = model.fit(x, seen, y, np.ones(len(y), np.float32), key=KEY)
    told = np.asarray(model.predict(params, x, seen))
    assert (np.diff(told, axis=1) >= 0).all()
    np.testing.assert_allclose((y[:, None] <= told).mean(0), model.levels, atol=0.03)


def test_a_path_and_lanes_are_the_fits_one_by_one():
    x, seen, y = table("diabetes")
    weight = (np.arange(len(y)) % 4 > 0).astype(np.float32)
    penalties = np.array([1.0, 100.0], np.float32)
    model = Quantile((0.2, 0.7))
    path = model.path(x, seen, y, weight, penalties)
    keys = jax.random.split(KEY, 2)
    many = model.fit_many(x, seen, y, np.stack([weight, weight]), keys=keys, settings={"penalty": penalties})
    for at, penalty in enumerate(penalties):
        one = model.given({"penalty": float(penalty)}).fit(x, seen, y, weight, key=KEY)
        for together in (path, many):
            np.testing.assert_allclose(together.coef[at], one.coef, atol=2e-3 * y.std())


def test_rows_that_weigh_nothing_and_what_is_masked_are_not_read():
    x, seen, y = table("diabetes")
    weight = (np.arange(len(y)) % 3 > 0).astype(np.float32)
    seen = seen & (x > x.min(0))
    loud = np.where(seen & (weight > 0)[:, None], x, np.nan).astype(np.float32)
    mask = np.where((weight > 0)[:, None], seen, True)
    model = Quantile(steps=100)
    before = model.fit(x, seen, y, weight, key=KEY)
    after = model.fit(loud, mask, np.where(weight > 0, y, np.nan).astype(np.float32), weight, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, before, after)
