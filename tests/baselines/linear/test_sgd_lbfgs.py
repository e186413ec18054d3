import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets

from framework.baselines.linear.base import standard
from framework.baselines.linear.logistic import Logistic, logistic_loss
from framework.baselines.linear.ridge import Ridge
from framework.baselines.linear.sgd_lbfgs import lbfgs, sgd

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def wine():
    x, y = datasets.load_wine(return_X_y=True)
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    return x, np.ones(x.shape, bool), y, np.ones(len(y), np.float32)


def test_lbfgs_and_sgd_end_where_newton_ends(wine):
    x, seen, y, weight = wine
    params = Logistic(3, 5.0).fit(x, seen, y, weight, key=KEY)
    loss, _, start = logistic_loss(standard(x, seen, weight), y, 3)

    def objective(at):
        return loss(at) + 2.5 / len(y) * (at[3:] ** 2).sum()

    truth, table = jax.nn.one_hot(y, 3), jnp.asarray(x)

    def of_rows(at, some):
        told = jax.nn.log_softmax(table[some] @ at[3:].reshape(-1, 3) + at[:3])
        return -(truth[some] * told).sum(1).mean() + 2.5 / len(y) * (at[3:] ** 2).sum() + at[:3].sum() ** 2 / 2

    direct = np.concatenate([params.intercept, np.ravel(params.coef)])
    at, values = lbfgs(objective, start, steps=40)
    np.testing.assert_allclose(at, direct, atol=2e-3)
    assert values[-1] <= values[0]
    at, _ = sgd(of_rows, start, rows=len(y), batch=32, steps=4000, rate=0.1, key=KEY)
    assert objective(at) <= objective(jnp.asarray(direct)) * (1 + 5e-3)


def test_lbfgs_ends_where_the_closed_form_ends(wine):
    x, seen, _, weight = wine
    target = x[:, 0] * 2 + np.sin(x[:, 1]) + 3
    params = Ridge(2.0).fit(x, seen, target, weight, key=KEY)
    table = jnp.asarray(x)

    def objective(at):
        return ((target - table @ at[1:] - at[0]) ** 2).mean() + 2.0 / len(target) * (at[1:] ** 2).sum()

    at, _ = lbfgs(objective, jnp.zeros(x.shape[1] + 1), steps=40)
    np.testing.assert_allclose(at[1:], params.coef[:, 0], atol=1e-3)
