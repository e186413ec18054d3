"""Survival metrics beside scikit-survival's, where a weight is a row told so many times, and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.baselines.survival.cox import Survival
from framework.baselines.survival.kaplan_meier import kaplan_meier, right_censored
from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.metrics.survival import DynamicAUC, Harrell, IntegratedBrier, Uno
from framework.types import Event

HORIZONS = (1.0, 2.0, 3.5)
EVENT = Event("conversion", HORIZONS)


@partial(jax.jit, static_argnums=0)
def scored(metrics, told, truth, weight, subject):
    """One program, which compiles sooner than what it is made of."""
    return jnp.stack([metric(told, truth, weight, subject) for metric in metrics])


def cases(seed: int = 0, n: int = 80):
    """Survival at the horizons with many ties, (lo, hi], and weights of which some are zero."""
    rng = np.random.default_rng(seed)
    rate = rng.choice([0.1, 0.2, 0.4, 0.8], n)
    came, gone = rng.exponential(1 / rate), rng.uniform(0.5, 6, n)
    time = np.minimum(came, gone).round(1) + 0.1
    event = came <= gone
    told = np.exp(-rate[:, None] * np.array(HORIZONS) * rng.choice([0.8, 1.2], n)[:, None])
    truth = np.stack([time, np.where(event, time, np.inf)], 1)
    return told, truth, rng.integers(0, 3, n).astype(float), np.arange(n)


def repeated(told, truth, weight):
    """Scikit-survival's arrays, a row as often as it weighs."""
    util = pytest.importorskip("sksurv.util", reason="scikit-survival is the oracle of these metrics")
    rows = np.repeat(np.arange(len(weight)), weight.astype(int))
    return util.Surv.from_arrays(np.isfinite(truth[rows, 1]), truth[rows, 0]), told[rows]


@pytest.mark.parametrize("seed", range(3))
def test_all_agree_with_scikit_survival(seed):
    told, truth, weight, subject = cases(seed)
    y, s = repeated(told, truth, weight)
    import sksurv.metrics as sk

    expected = {
        Harrell: sk.concordance_index_censored(y["event"], y["time"], -s.mean(1))[0],
        Uno: sk.concordance_index_ipcw(y, y, -s.mean(1), tau=HORIZONS[-1])[0],
        IntegratedBrier: sk.integrated_brier_score(y, y, s, HORIZONS),
        DynamicAUC: sk.cumulative_dynamic_auc(y, y, 1 - s, HORIZONS)[1],
    }
    metrics = tuple(metric(horizons=HORIZONS) for metric in expected)
    np.testing.assert_allclose(scored(metrics, told, truth, weight, subject), [*expected.values()], atol=1e-5)
    with jax.enable_x64(True):
        np.testing.assert_allclose(scored(metrics, told, truth, weight, subject), [*expected.values()], atol=1e-6)


@pytest.mark.parametrize("censoring", [False, True])
def test_the_curves_agree_with_scikit_survival(censoring):
    told, truth, weight, _ = cases(5)
    y, _ = repeated(told, truth, weight)
    import sksurv.nonparametric as sk

    times, left = sk.kaplan_meier_estimator(y["event"], y["time"], reverse=censoring)[:2]
    with jax.enable_x64(True):
        curve = kaplan_meier(right_censored(*truth.T), weight, censoring)
        np.testing.assert_allclose(curve.at(times), left, atol=1e-12)
        np.testing.assert_allclose(curve.at(times - 0.05), np.r_[1, left[:-1]], atol=1e-12)


def test_by_hand():
    """Events at 1 and 2, one censored at 2, one followed to 4: G is 1 until 2, where one of the two left goes."""
    truth = np.array([[1, 1], [2, 2], [2, np.inf], [4, np.inf]], float)
    told = np.array([[0.2], [0.6], [0.4], [0.9]])
    one = np.ones(4)
    late = (Harrell(horizons=(3.0,)), Uno(horizons=(3.0,)), IntegratedBrier(horizons=(3.0,)))
    told_of = scored((*late, IntegratedBrier(horizons=(1.5,))), told, truth, one, np.arange(4))
    # 1 before each of the three others: right each time; 2 before the censored (wrong) and the last (right), G = 1 and ½
    brier = (0.2**2 + 2 * 0.6**2 + 2 * 0.1**2) / 4, (0.2**2 + 0.4**2 + 0.6**2 + 0.1**2) / 4
    np.testing.assert_allclose(told_of, [4 / 5, (3 + 4) / (3 + 8), *brier], rtol=1e-6)


def test_an_event_counts_at_the_middle_of_its_interval():
    told = right_censored(np.array([1.0, 2.0, 0.0]), np.array([2.0, np.inf, 3.0]))
    np.testing.assert_array_equal(told.time, [1.5, 2, 1.5])
    np.testing.assert_array_equal(told.event, [True, False, True])


def test_the_headline_is_unos():
    assert [m.name for m in metrics_for(EVENT)] == ["C-index (Uno)", "C-index (Harrell)", "integrated Brier", "AUC(t)"]


def test_weights_are_one_call_and_a_zero_changes_nothing():
    told, truth, weight, subject = cases(1)
    metrics, kept = metrics_for(EVENT), weight > 0
    prepared = [metric.prepare(told, truth) for metric in metrics]

    @jax.jit
    @jax.vmap
    def lanes(weight):
        return jnp.stack([metric.score(one, weight) for metric, one in zip(metrics, prepared, strict=True)])

    rows = np.stack([weight, np.ones_like(weight), weight[::-1]]).astype(np.float32)
    alone = [scored(metrics, told, truth, row, subject) for row in rows]
    np.testing.assert_allclose(lanes(rows), alone, rtol=1e-5)
    without = scored(metrics, told[kept], truth[kept], weight[kept], subject[kept])
    np.testing.assert_allclose(alone[0], without, rtol=1e-5)


def test_what_cannot_be_scored_is_nan_and_what_nobody_reached_is_left_out():
    told, truth, weight, subject = cases(2)
    nobody = np.stack([np.full(80, 0.5), np.full(80, np.inf)], 1)  # all are lost before the first horizon
    assert np.isnan(scored(metrics_for(EVENT), told, nobody, weight, subject)).all()
    late = truth[:, 0] > 2.2  # nobody is followed to the last horizon
    short = np.stack([np.minimum(truth[:, 0], 2.2), np.where(late, np.inf, truth[:, 1])], 1)
    assert np.isfinite(scored(metrics_for(EVENT), told, short, weight, subject)).all()


def test_perfect_and_useless_forecasts():
    _, truth, _, subject = cases(3)
    time, one = truth[:, 0], np.ones(80)
    perfect = (time[:, None] > np.array(HORIZONS)) + 0.001 * time[:, None]
    best = scored(metrics_for(EVENT), perfect, np.stack([time, time], 1), one, subject)
    np.testing.assert_allclose(best, [1, 1, 0, 1], atol=0.01)
    useless = scored(metrics_for(EVENT), np.full((80, 3), 0.5), truth, one, subject)
    np.testing.assert_allclose(useless, [0.5, 0.5, 0.25, 0.5], atol=0.03)


def test_pairs_are_of_one_fold():
    """Within folds a ranking is the mean over folds' own, each by its pairs; curves of their own are all ties."""
    told, truth, weight, subject = cases(4)
    fold = np.random.default_rng(4).integers(0, 4, 80)
    metrics = (Harrell(horizons=HORIZONS), Uno(horizons=HORIZONS), DynamicAUC(horizons=HORIZONS))

    @jax.jit
    def within(told, fold, weight):
        return jnp.stack([m.score(m.prepare_within(told, truth, fold), weight) for m in metrics])

    np.testing.assert_allclose(within(told, 0 * fold, weight), scored(metrics, told, truth, weight, subject), rtol=1e-6)
    moved = np.clip(told + 0.1 * fold[:, None], 0, 2)  # each fold's model has an offset of its own
    np.testing.assert_allclose(within(moved, fold, weight), within(told, fold, weight), atol=1e-6)
    np.testing.assert_allclose(within(0.3 + 0.1 * fold[:, None] + 0 * told, fold, weight), [0.5] * 3, rtol=1e-6)
    pairs, right = 0.0, 0.0
    for k in range(4):
        i, j = np.meshgrid(np.flatnonzero(fold == k), np.flatnonzero(fold == k), indexing="ij")
        (time, came), risk = (truth[:, 0], np.isfinite(truth[:, 1])), -told.mean(1)
        comparable = (came[i] & ((time[i] < time[j]) | ((time[i] == time[j]) & ~came[j]))) * weight[i] * weight[j]
        pairs += comparable.sum()
        right += (comparable * ((risk[j] < risk[i]) + 0.5 * (risk[j] == risk[i]))).sum()
    np.testing.assert_allclose(within(told, fold, weight)[0], right / pairs, rtol=1e-5)


def test_survival_of_one_row():
    curve = kaplan_meier(Survival(np.array([2.0]), np.array([True])), np.ones(1))
    np.testing.assert_array_equal(curve.at(np.array([1.0, 2.0, 3.0])), [1, 0, 0])


def test_comparable_pairs_are_counted_and_their_lack_is_explained():
    _, truth, _, _ = cases(6)
    truth[:40] = truth[:40].round()  # ties of events and of those lost
    fold = np.random.default_rng(6).integers(0, 4, 80)
    survival = right_censored(*truth.T)
    time, event = np.asarray(survival.time), np.asarray(survival.event)
    pairs = event[:, None] & (fold[:, None] == fold)
    later = (time[:, None] < time) | ((time[:, None] == time) & ~event)
    horizon = np.array(HORIZONS, np.float32)
    apart = ((time[:, None] <= horizon)[:, None] & (time[:, None] > horizon)[None]).any(-1)
    harrell, uno, dynamic = (kind(horizons=HORIZONS) for kind in (Harrell, Uno, DynamicAUC))
    assert harrell.comparable(truth, fold) == (pairs & later).sum()
    assert uno.comparable(truth, fold) == (pairs & later & (time < 3.5)[:, None]).sum()
    assert dynamic.comparable(truth, fold) == (pairs & apart).sum()
    assert harrell.unestimable(truth, fold, ()) is None
    assert harrell.unestimable(truth, np.arange(80), ()) == "in no fold was anybody followed beyond another's event"
    lost = np.stack([truth[:, 0], np.full(80, np.inf)], 1)
    assert harrell.unestimable(lost, fold, ()) == "no event was observed"
