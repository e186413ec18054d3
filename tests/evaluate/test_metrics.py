import jax
import numpy as np
import pytest
from sklearn import metrics as sk

from framework.evaluate.classification import AUC, BCA, MAUC, Accuracy, Brier, LogLoss
from framework.evaluate.metrics import metrics_for
from framework.evaluate.regression import MAE, RMSE, Coverage, Pinball, Width
from framework.types import LEVELS, Target

POINTS = Target("MMSE", 0, "points")
EVENT = Target("CDR", 1, "1", ("0", "0.5", "1"), positive_from="0.5")
CLASSES = Target("DX", 2, "1", ("CN", "MCI", "AD"))
ALL = [(t, m) for t in (POINTS, EVENT, CLASSES) for m in metrics_for(t)]
IDS = [f"{t.name}-{m.name}" for t, m in ALL]


def cases(target: Target, seed: int = 0, n: int = 60):
    """Forecasts with many ties, truths, weights of which some are zero, and the subject of each."""
    rng = np.random.default_rng(seed)
    subject = np.sort(rng.integers(0, 12, n))
    weight = rng.integers(0, 4, n).astype(float)
    if target.levels:
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
    assert metrics_for(Target("nWBV", 0, "1"))[0].unit is None
    assert [m.better for m in metrics_for(POINTS)][-3:] == [0.5, 0.9, "lower"]


@pytest.mark.parametrize("seed", range(3))
def test_numbers_agree_with_scikit_learn(seed):
    q, y, w, s = cases(POINTS, seed)
    assert np.isclose(MAE()(q, y, w, s), sk.mean_absolute_error(y, q[:, 2], sample_weight=w), rtol=1e-5)
    assert np.isclose(RMSE()(q, y, w, s), sk.root_mean_squared_error(y, q[:, 2], sample_weight=w), rtol=1e-5)
    losses = [sk.mean_pinball_loss(y, q[:, i], alpha=level, sample_weight=w) for i, level in enumerate(LEVELS)]
    assert np.isclose(Pinball()(q, y, w, s), np.mean(losses), rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_classes_agree_with_scikit_learn(seed):
    p, y, w, s = cases(EVENT, seed)
    auc = sk.roc_auc_score(y >= 1, p[:, 1:].sum(1), sample_weight=w)
    assert np.isclose(AUC(positive=1)(p, y, w, s), auc, atol=1e-5)
    given = p[np.arange(len(y)), y.astype(int)].clip(1e-6)
    assert np.isclose(LogLoss()(p, y, w, s), np.average(-np.log(given), weights=w), rtol=1e-5)
    assert np.isclose(Accuracy()(p, y, w, s), sk.accuracy_score(y, p.argmax(1), sample_weight=w), rtol=1e-5)
    brier = sk.brier_score_loss(y, p, sample_weight=w, labels=[0, 1, 2], scale_by_half=False)
    assert np.isclose(Brier()(p, y, w, s), brier, rtol=1e-5)
    assert np.isclose(MAUC()(p, y, np.ones(len(y)), s), sk.roc_auc_score(y, p, multi_class="ovo"), atol=1e-5)


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


@pytest.mark.parametrize(("target", "metric"), ALL, ids=IDS)
def test_laws(target, metric):
    prediction, truth, weight, subject = cases(target)
    score = jax.jit(lambda *arguments: metric(*arguments))
    whole = score(prediction, truth, weight, subject)
    assert np.isclose(whole, metric(prediction, truth, weight, subject), rtol=1e-5)
    unseen = weight == 0
    other, wrong = prediction[::-1], truth[::-1]
    masked = np.where(unseen[:, None], other, prediction), np.where(unseen, wrong, truth)
    assert np.isclose(whole, score(*masked, weight, subject), rtol=1e-5)
    assert np.isclose(whole, score(prediction, truth, 3 * weight, subject), rtol=1e-5)
    order = np.random.default_rng(1).permutation(len(truth))
    assert np.isclose(whole, score(prediction[order], truth[order], weight[order], subject[order]), rtol=1e-5)
    assert np.isnan(score(prediction, truth, 0 * weight, subject))


@pytest.mark.parametrize(("target", "metric"), ALL, ids=IDS)
def test_weights_are_counts_of_subjects(target, metric):
    prediction, truth, _, subject = cases(target, seed=3)
    counts = np.random.default_rng(2).integers(0, 3, 12)
    again = np.concatenate([np.flatnonzero(subject == s) for s in range(12) for _ in range(counts[s])])
    copies = [np.full((subject == s).sum(), 100 * s + k) for s in range(12) for k in range(counts[s])]
    _, renamed = np.unique(np.concatenate(copies), return_inverse=True)
    score = jax.jit(lambda *arguments: metric(*arguments))
    repeated = score(prediction[again], truth[again], np.ones(len(again)), renamed)
    assert np.isclose(score(prediction, truth, counts[subject].astype(float), subject), repeated, rtol=1e-5)
