import jax
import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from statsmodels.duration.hazard_regression import PHReg

from framework.baselines.survival.cox import Cox, Survival

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 4)).astype(np.float32) * np.array([1, 3, 1, 0.1], np.float32) + 5
    hazard = np.exp((x - 5) @ [0.8, -0.2, 0, 5])
    event_time, censored = rng.exponential(1 / hazard), rng.exponential(1.5, 150)
    time = np.ceil(np.minimum(event_time, censored) * 8) / 8  # many ties
    return x, np.ones(x.shape, bool), Survival(time.astype(np.float32), event_time <= censored)


@pytest.mark.parametrize("efron", [True, False])
def test_coefficients_are_those_of_statsmodels(cohort, efron):
    x, seen, survival = cohort
    params = Cox(efron=efron).fit(x, seen, survival, np.ones(len(x), np.float32), key=KEY)
    exog = x.astype(float)
    reference = PHReg(survival.time.astype(float), exog, survival.event, ties="efron" if efron else "breslow").fit()
    np.testing.assert_allclose(params.linear.coef[:, 0], reference.params, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 3.0])
@pytest.mark.parametrize("efron", [True, False])
def test_a_penalty_and_curves_are_those_of_scikit_survival(cohort, penalty, efron):
    x, seen, survival = cohort
    model = Cox(penalty, efron)
    params = model.fit(x, seen, survival, np.ones(len(x), np.float32), key=KEY)
    y = np.array(list(zip(survival.event, survival.time, strict=True)), dtype=[("event", bool), ("time", float)])
    reference = CoxPHSurvivalAnalysis(alpha=penalty, ties="efron" if efron else "breslow", tol=1e-12).fit(
        x.astype(float), y
    )
    np.testing.assert_allclose(params.linear.coef[:, 0], reference.coef_, rtol=1e-3, atol=1e-4)
    if not efron:  # its baseline is Breslow's in either case
        times = np.array([0.125, 0.5, 1.0], np.float32)
        expected = np.array([curve(times) for curve in reference.predict_survival_function(x)])
        np.testing.assert_allclose(model.curve(params, x, seen, times), expected, atol=1e-3)


def test_the_likelihood_after_efron_with_weights_is_the_sum_by_hand(cohort):
    """No step lowers what a loop over the deaths gives, whole weights counted as in Therneau & Grambsch 2000, §3.3."""
    x, seen, survival = cohort
    rng = np.random.default_rng(1)
    weight = rng.integers(0, 4, len(x)).astype(np.float32)
    params = Cox(0.5).fit(x, seen, survival, weight, key=KEY)

    def objective(b):
        score = (x - 5.0) @ b
        risk, total = weight * np.exp(score), 0.25 * (b**2).sum()
        for time in np.unique(survival.time[survival.event]):
            dead = survival.event & (survival.time == time) & (weight > 0)
            for number in range(dead.sum()):
                at_risk = risk[survival.time >= time].sum() - number / dead.sum() * risk[dead].sum()
                total += weight[dead].sum() / dead.sum() * np.log(at_risk)
            total -= (weight * score)[dead].sum()
        return total

    b = np.asarray(params.linear.coef[:, 0], float)
    gradient = [(objective(b + step) - objective(b - step)) / 2e-4 for step in 1e-4 * np.eye(4)]
    assert np.abs(np.asarray(gradient) * x.std(0)).max() < 1e-4 * weight.sum()


def test_a_path_and_lanes_are_the_fits_one_by_one(cohort):
    x, seen, survival = cohort
    weight = (np.arange(len(x)) % 4 > 0).astype(np.float32)
    penalties = np.array([1.0, 100.0], np.float32)
    path = Cox().path(x, seen, survival, weight, penalties)
    keys = jax.random.split(KEY, 2)
    many = Cox().fit_many(x, seen, survival, np.stack([weight] * 2), keys=keys, settings={"penalty": penalties})
    for at, penalty in enumerate(penalties):
        one = Cox(float(penalty)).fit(x, seen, survival, weight, key=KEY)
        for together in (path, many):
            np.testing.assert_allclose(together.linear.coef[at], one.linear.coef, atol=1e-4)
            np.testing.assert_allclose(together.hazard[at], one.hazard, rtol=1e-3)


def test_rows_that_weigh_nothing_and_what_is_masked_are_not_read(cohort):
    x, seen, survival = cohort
    weight = (np.arange(len(x)) % 3 > 0).astype(np.float32)
    counts = weight > 0
    loud = np.where(counts[:, None], x, np.nan).astype(np.float32)
    noise = Survival(np.where(counts, survival.time, np.nan).astype(np.float32), np.where(counts, survival.event, True))
    before = Cox().fit(x, seen, survival, weight, key=KEY)
    after = Cox().fit(loud, seen, noise, weight, key=KEY)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    alone = Cox().fit(
        x[counts], seen[counts], Survival(survival.time[counts], survival.event[counts]), weight[counts], key=KEY
    )
    np.testing.assert_allclose(before.linear.coef, alone.linear.coef, rtol=1e-4)
