import jax
import numpy as np
import pytest
import statsmodels.api as sm
from sklearn import metrics as sk

from framework.evaluate.metrics.classification import (
    Brier,
    CalibrationError,
    CalibrationIntercept,
    CalibrationSlope,
    LogLoss,
)
from framework.evaluate.metrics.confusion import (
    BCA,
    F1,
    Accuracy,
    BalancedAccuracy,
    Matthews,
    Precision,
    Recall,
    Specificity,
)
from framework.evaluate.metrics.ranking import AUC, AUPRC, MAUC
from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.metrics.regression import CPA, CRPS, MAE, R2, RMSE, WES, Coverage, Pinball, Width
from framework.types import LEVELS, Categorical, Number, Target

POINTS = Number("MMSE", 0, "points")
EVENT = Categorical("CDR", 1, ("0", "0.5", "1"), positive_from="0.5")
CLASSES = Categorical("DX", 2, ("CN", "MCI", "AD"))
TARGETS = pytest.mark.parametrize("target", [POINTS, EVENT, CLASSES], ids=lambda target: target.name)


def cases(target: Target, seed: int = 0, n: int = 60):
    """Forecasts with many ties, truths, weights of which some are zero, and the subject of each."""
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(0, 12, n))
    weight = rng.integers(0, 4, n).astype(float)
    if isinstance(target, Categorical):
        sixteenths = rng.multinomial(16, [0.4, 0.3, 0.3], n) / 16  # sums of them are exact, so that ties stay ties
        return sixteenths, rng.integers(0, 3, n).astype(float), weight, subject
    return np.sort(rng.normal(25, 3, (n, 5)).round(1), axis=1), rng.normal(25, 3, n).round(1), weight, subject


def of_confusion(confusion):
    rows = [(true, called) for true, row in enumerate(confusion) for called, n in enumerate(row) for _ in range(n)]
    truth, called = np.array(rows).T
    return np.eye(len(confusion))[called], truth.astype(float), np.ones(len(rows)), np.arange(len(rows))


def test_headlines():
    assert [metrics_for(t)[0].name for t in (POINTS, EVENT, CLASSES)] == ["MAE", "AUC", "mAUC"]
    assert len({m.name for m in metrics_for(POINTS)}) == len(metrics_for(POINTS))
    assert metrics_for(POINTS)[0].unit == "points"
    assert metrics_for(Number("nWBV", 0, "1"))[0].unit is None
    assert [m.better for m in metrics_for(POINTS)][4:7] == [0.5, 0.9, "lower"]


def near(value, expected):
    return np.isclose(float(value), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_numbers_agree_with_scikit_learn(seed):
    q, y, w, s = cases(POINTS, seed)
    median = q[:, 2]
    assert near(MAE()(q, y, w, s), sk.mean_absolute_error(y, median, sample_weight=w))
    assert near(RMSE()(q, y, w, s), sk.root_mean_squared_error(y, median, sample_weight=w))
    assert near(R2()(q, y, w, s), sk.r2_score(y, median, sample_weight=w))
    losses = [sk.mean_pinball_loss(y, q[:, i], alpha=level, sample_weight=w) for i, level in enumerate(LEVELS)]
    assert near(Pinball()(q, y, w, s), np.mean(losses))


@pytest.mark.parametrize("seed", range(3))
def test_crps_is_that_of_a_large_ensemble(seed):
    q, y, w, s = cases(POINTS, seed, n=12)
    steps = 4000
    level = (np.arange(steps) + 0.5) / steps
    members = np.stack([np.interp(level, LEVELS, row) for row in q])
    # the ensemble's CRPS by its sorted members: mean |x - y| - sum of (2i - 1 - n) x_i / n²
    ranks = 2 * np.arange(1, steps + 1) - 1 - steps
    each = np.abs(members - y[:, None]).mean(1) - (ranks * members).sum(1) / steps**2
    assert near(CRPS()(q, y, w, s), np.average(each, weights=w))


def test_crps_by_hand():
    def crps(quantiles, truth):
        return float(CRPS()(np.array([quantiles], float), np.array([float(truth)]), np.ones(1), np.zeros(1, int)))

    assert crps([3] * 5, 5) == 2  # a point: the absolute error
    normal = [-1.6448536, -0.6744898, 0, 0.6744898, 1.6448536]
    assert abs(crps(normal, 0) - 0.2337) < 0.015  # of the normal law itself at its middle: (sqrt 2 - 1) / sqrt pi
    assert crps(normal, 1) == pytest.approx(crps(normal, -1))


@pytest.mark.parametrize("seed", range(3))
def test_classes_agree_with_scikit_learn(seed):
    p, y, w, s = cases(EVENT, seed)
    event, said, called = y >= 1, p[:, 1:].sum(1), p.argmax(1)
    assert near(AUC(positive=1)(p, y, w, s), sk.roc_auc_score(event, said, sample_weight=w))
    assert near(AUPRC(positive=1)(p, y, w, s), sk.average_precision_score(event, said, sample_weight=w))
    each = [sk.average_precision_score(y == k, p[:, k], sample_weight=w) for k in range(3)]
    assert near(AUPRC()(p, y, w, s), np.mean(each))
    given = p[np.arange(len(y)), y.astype(int)].clip(1e-6)
    assert near(LogLoss()(p, y, w, s), np.average(-np.log(given), weights=w))
    brier = sk.brier_score_loss(y, p, sample_weight=w, labels=[0, 1, 2], scale_by_half=False)
    assert near(Brier()(p, y, w, s), brier)
    assert near(MAUC()(p, y, np.ones(len(y)), s), sk.roc_auc_score(y, p, multi_class="ovo"))
    for true, made, positive in ((y, called, None), (event, said > 0.5, 1)):
        of = {"average": "macro"} if positive is None else {}
        rates = sk.precision_recall_fscore_support(true, made, sample_weight=w, average=of.get("average", "binary"))
        for kind, expected in zip((Precision, Recall, F1), rates, strict=False):
            assert near(kind(positive=positive)(p, y, w, s), expected)
        balanced = sk.balanced_accuracy_score(true, made, sample_weight=w)
        assert near(BalancedAccuracy(positive=positive)(p, y, w, s), balanced)
        assert near(Matthews(positive=positive)(p, y, w, s), sk.matthews_corrcoef(true, made, sample_weight=w))
        assert near(Accuracy(positive=positive)(p, y, w, s), sk.accuracy_score(true, made, sample_weight=w))
    assert near(Specificity(positive=1)(p, y, w, s), sk.recall_score(~event, said <= 0.5, sample_weight=w))
    each = [sk.recall_score(y != k, called != k, sample_weight=w) for k in range(3)]
    assert near(Specificity()(p, y, w, s), np.mean(each))


def test_calibration_agrees_with_a_regression():
    p, y, w, s = cases(EVENT, 4, n=200)
    event, said = (y >= 1).astype(float), p[:, 1:].sum(1).clip(1e-6, 1 - 1e-6)
    logit = np.log(said / (1 - said))
    family = sm.families.Binomial()
    free = sm.GLM(event, sm.add_constant(logit), family=family, freq_weights=w).fit(tol=1e-12)
    held = sm.GLM(event, np.ones(200), family=family, freq_weights=w, offset=logit).fit(tol=1e-12)
    assert np.isclose(CalibrationSlope()(p, y, w, s), free.params[1], atol=1e-5)
    assert np.isclose(CalibrationIntercept()(p, y, w, s), held.params[0], atol=1e-5)
    apart = np.where(event[:, None] == 1, [[0.3, 0.3, 0.4]], [[0.6, 0.3, 0.1]])
    assert np.isnan(CalibrationSlope()(apart, y, w, s))  # a threshold tells them apart


def test_calibration_error_by_hand():
    p = np.array([[0.9, 0.1], [0.88, 0.12], [0.45, 0.55], [0.25, 0.75]])
    y = np.array([0.0, 1.0, 1.0, 1.0])
    bins = abs(0.1 + 0.12 - 1) + abs(0.55 - 1) + abs(0.75 - 1)
    assert near(CalibrationError(positive=1)(p, y, np.ones(4), np.arange(4)), bins / 4)
    bins = abs(0.9 - 1) + abs(0.88 - 0) + abs(0.55 - 1) + abs(0.75 - 1)  # the class called, at 0.9, 0.88, 0.55, 0.75
    assert near(CalibrationError()(p, y, np.ones(4), np.arange(4)), bins / 4)


def test_the_challenge_s_scores_by_hand():
    q = np.array([[0.0, 1, 2, 3, 4], [0, 0, 1, 4, 5], [0, 2, 3, 3, 4]])
    y, one = np.array([3.0, 3.0, 3.0]), np.ones(3)
    # errors 1, 2, 0 with weights 1/2, 1/4, 1; a truth at the end of its interval is outside
    assert near(WES()(q, y, one, np.arange(3)), (1 / 2 + 2 / 4 + 0) / (1 / 2 + 1 / 4 + 1))
    assert near(CPA()(q, y, one, np.arange(3)), abs(1 / 3 - 0.5))
    q[2] = 3
    assert np.isnan(WES()(q, y, one, np.arange(3)))
    assert not np.isnan(WES()(q, y, np.array([1.0, 1, 0]), np.arange(3)))


def test_mauc_with_weights_is_mauc_of_repeated_rows():
    p, y, w, s = cases(CLASSES)
    again = np.repeat(np.arange(len(y)), w.astype(int))
    assert np.isclose(MAUC()(p, y, w, s), sk.roc_auc_score(y[again], p[again], multi_class="ovo"), atol=1e-5)


def test_auc_by_hand():
    p = np.array([[0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.2, 0.8]])
    y = np.array([0.0, 0.0, 1.0, 1.0])
    assert AUC()(p, y, np.ones(4), np.arange(4)) == 3.5 / 4  # the tied pair counts half
    assert np.isclose(AUC()(p, y, np.array([1.0, 3, 1, 1]), np.arange(4)), (1 + 1.5 + 1 + 3) / 8)
    assert AUC()(np.full((4, 2), 0.5), y, np.ones(4), np.arange(4)) == 0.5


def test_one_class_alone_is_undefined():
    p, y, w, s = cases(CLASSES)
    assert np.isnan(AUC()(p, np.ones(60), w, s))
    assert np.isnan(AUC()(p, y, np.where(y >= 1, w, 0), s))
    assert np.isnan(MAUC()(p, y, np.where(y == 2, 0, w), s))


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[69, 8, 9], [16, 61, 15], [2, 12, 18]], 0.763),
        ([[5, 0], [0, 5]], 1.0),
        ([[4, 0, 0], [0, 0, 0], [0, 0, 4]], (1 + (0.5 + 1) / 2 + 1) / 3),  # no member: a sensitivity of one half
        ([[4, 4], [0, 0]], ((0.5 + 0.5) / 2 + (0.5 + 0.5) / 2) / 2),
    ],
)
def test_bca(confusion, expected):
    assert np.isclose(BCA()(*of_confusion(confusion)), expected, atol=5e-4)


def test_intervals_by_hand():
    q = np.array([[1.0, 2, 3, 4, 5]] * 4)
    y, subject = np.array([1.0, 2.0, 5.0, 6.0]), np.array([0, 0, 0, 1])
    assert Coverage(inner=0)(q, y, np.ones(4), subject) == 0.75  # ends are inside
    assert Coverage(inner=1)(q, y, np.ones(4), subject) == 0.25
    assert Coverage(averaging="subject")(q, y, np.ones(4), subject) == 0.5
    assert Width()(q, y, np.ones(4), subject) == 4
    assert np.isclose(MAE(averaging="subject")(q, y, np.ones(4), subject), np.mean([np.mean([2, 1, 2]), 3]))
    assert (Coverage(inner=0).better, Coverage(inner=1).better) == (0.9, 0.5)


def test_log_loss_is_clipped():
    assert np.isclose(LogLoss()(np.array([[1.0, 0.0]]), np.ones(1), np.ones(1), np.zeros(1, int)), -np.log(1e-6))


def all_of(target: Target):
    """Every metric of a target as one program."""
    metrics = metrics_for(target)
    return jax.jit(lambda *arguments: jax.numpy.stack([metric(*arguments) for metric in metrics]))


def alike(target: Target, ours, theirs):
    for metric, a, b in zip(metrics_for(target), ours, theirs, strict=True):
        assert np.isclose(a, b, rtol=1e-5), metric.name


@TARGETS
def test_laws(target):
    prediction, truth, weight, subject = cases(target)
    score = all_of(target)
    whole = score(prediction, truth, weight, subject)
    unseen = weight == 0
    other, wrong = prediction[::-1], truth[::-1]
    masked = np.where(unseen[:, None], other, prediction), np.where(unseen, wrong, truth)
    alike(target, whole, score(*masked, weight, subject))
    alike(target, whole, score(prediction, truth, 3 * weight, subject))
    order = np.random.default_rng(1).permutation(len(truth))
    alike(target, whole, score(prediction[order], truth[order], weight[order], subject[order]))
    assert np.isnan(score(prediction, truth, 0 * weight, subject)).all()


@TARGETS
def test_weights_are_counts_of_subjects(target):
    prediction, truth, _, subject = cases(target, seed=3)
    counts = np.random.default_rng(2).integers(0, 3, 12)
    again = np.concatenate([np.flatnonzero(subject == s) for s in range(12) for _ in range(counts[s])])
    copies = [np.full((subject == s).sum(), 100 * s + k) for s in range(12) for k in range(counts[s])]
    _, renamed = np.unique(np.concatenate(copies), return_inverse=True)
    score = all_of(target)
    repeated = score(prediction[again], truth[again], np.ones(len(again)), renamed)
    alike(target, score(prediction, truth, counts[subject].astype(float), subject), repeated)


def test_compiled_or_not():
    prediction, truth, weight, subject = cases(EVENT)
    alike(
        EVENT,
        all_of(EVENT)(prediction, truth, weight, subject),
        [m(prediction, truth, weight, subject) for m in metrics_for(EVENT)],
    )


@pytest.mark.parametrize("seed", range(2))
def test_rankings_compare_forecasts_of_one_fold_alone(seed):
    p, y, w, _ = cases(EVENT, seed, n=90)
    fold = np.random.default_rng(seed).integers(0, 30, 90)
    kinds = AUC(), AUPRC(positive=1), MAUC()
    auc, auprc, mauc = (float(kind.score(kind.prepare_within(p, y, fold), w.astype(np.float32))) for kind in kinds)
    event, said = y >= 1, p[:, 1:].sum(1)
    of = [fold == k for k in range(30) if len(np.unique(event[(fold == k) & (w > 0)])) == 2]
    each = [sk.roc_auc_score(event[own], said[own], sample_weight=w[own]) for own in of]
    assert near(auc, np.average(each, weights=[w[own & event].sum() * w[own & ~event].sum() for own in of]))
    each = [sk.average_precision_score(event[own], said[own], sample_weight=w[own]) for own in of]
    assert near(auprc, np.average(each, weights=[w[own & event].sum() for own in of]))
    assert 10 < len(of) < 28  # others have one outcome alone
    right, pairs = np.zeros((3, 3)), np.zeros((3, 3))
    for i, j in ((i, j) for i in range(3) for j in range(3) if i != j):
        a, b = np.flatnonzero(y == i), np.flatnonzero(y == j)
        both = np.outer(w[a], w[b]) * (fold[a][:, None] == fold[b])
        above = (p[a, i][:, None] > p[b, i]) + 0.5 * (p[a, i][:, None] == p[b, i])
        right[i, j], pairs[i, j] = (both * above).sum(), both.sum()
    assert near(mauc, np.mean((right / np.where(pairs, pairs, 1))[~np.eye(3, dtype=bool)]))


@pytest.mark.parametrize("kind", [AUC(), AUPRC(positive=1), AUPRC(), MAUC()], ids=lambda kind: kind.name)
def test_an_intercept_of_its_own_in_each_fold_changes_no_ranking(kind):
    p, y, w, s = cases(EVENT, 1, n=80)
    fold = np.random.default_rng(5).integers(0, 5, 80)
    if kind.positive is None:
        moved = p * (1 + fold[:, None])  # a ranking asks for no sum of one
    else:
        event = (p[:, 1:].sum(1) + 10 * fold) / 60
        moved = np.stack([1 - event, event, 0 * event], 1)
    w = w.astype(np.float32)
    score = jax.jit(lambda p, fold: kind.score(kind.prepare_within(p, y, fold), w))
    assert near(score(moved, fold), score(p, fold))
    assert not near(score(moved, 0 * fold), score(p, 0 * fold))
    assert near(score(p, 0 * fold), kind(p, y, w, s))  # one fold is none


def test_comparable_pairs_are_counted_and_their_lack_is_explained():
    levels = EVENT.levels
    _, y, _, _ = cases(EVENT, 2)
    fold = np.random.default_rng(2).integers(0, 7, 60)
    same = fold[:, None] == fold
    assert AUC().comparable(y, fold) == (same & ((y >= 1)[:, None] & (y < 1))).sum()
    assert MAUC().comparable(y, fold) == (same & (y[:, None] > y)).sum()
    assert MAE().comparable(y, fold) is None
    alone, truth = np.arange(4), np.array([0, 1, 2, 2])
    assert [kind.comparable(truth, alone) for kind in (AUC(), MAUC(), AUPRC())] == [0, 0, 0]
    assert AUC().unestimable(truth, 0 * alone, levels) is None
    assert AUC().unestimable(truth, alone, levels) == "no fold has both outcomes, 0 and 0.5 or beyond"
    assert AUC().unestimable(0 * truth, alone, levels) == "all outcomes are alike"
    assert MAUC().unestimable(truth, np.array([0, 0, 1, 1]), levels) == "no fold has both outcomes, 0 and 1"
    assert MAUC().unestimable(np.array([0, 1, 1]), np.zeros(3, int), levels) == "no outcome is 1"
    assert AUPRC().unestimable(truth, np.array([0, 0, 1, 1]), levels) == "no fold has both outcomes, 1 and not 1"
    kinds = AUC(), MAUC(), AUPRC()
    told, came, weight = np.eye(3)[truth], truth.astype(float), np.ones(4, np.float32)
    score = jax.jit(lambda fold: [kind.score(kind.prepare_within(told, came, fold), weight) for kind in kinds])
    for fold in (alone, 0 * alone, np.array([0, 0, 1, 1])):
        assert np.isnan(score(fold)).tolist() == [kind.unestimable(truth, fold, levels) is not None for kind in kinds]


def test_copies_of_an_event_in_a_resample_do_not_find_each_other():
    """Of each event the precision among all others at its score, itself once, however often it was drawn."""
    p, y, w, _ = cases(EVENT, 3, n=40)
    fold, kind, event = np.arange(40) % 6, AUPRC(positive=1), y >= 1
    said, precision, drawn = p[:, 1:].sum(1), [], []
    for i in np.flatnonzero(event & (w > 0)):
        others = (fold == fold[i]) & (np.arange(40) != i)
        if (w * others * ~event).sum() == 0:
            continue
        above = others & (said >= said[i])
        precision.append((1 + w[above & event].sum()) / (1 + w[above].sum()))
        drawn.append(w[i])
    prepared = kind.prepare_within(p, y, fold)
    assert near(kind.score_resample(prepared, w.astype(np.float32)), np.average(precision, weights=drawn))
    ones = np.ones(40, np.float32)
    assert near(kind.score_resample(prepared, ones), kind.score(prepared, ones))
