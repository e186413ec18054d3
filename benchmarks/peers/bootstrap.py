"""The bootstrap in a plain loop: rows are resampled and every metric of scikit-learn is computed on them."""

from typing import assert_never

import numpy as np
from jaxtyping import Float, Int
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from framework.types import LEVELS, Categorical, Measured, Number


def resample(
    target: Measured,
    forecasts: Float[np.ndarray, "m q p"],
    truth: Float[np.ndarray, " q"],
    subject: Int[np.ndarray, " q"],
    rng: np.random.Generator,
) -> Float[np.ndarray, "m k"]:
    """Compute all metrics of all forecasters on one resample; rows are sorted by subject, equally many each."""
    subjects = subject[-1] + 1
    visits = len(subject) // subjects
    rows = (rng.integers(0, subjects, subjects)[:, None] * visits + np.arange(visits)).ravel()
    return np.array([_score(target, one[rows], truth[rows], subject[rows]) for one in forecasts])


def _score(target: Measured, forecast: np.ndarray, truth: np.ndarray, subject: np.ndarray) -> list[float]:
    match target:
        case Number():
            return _numbers(forecast, truth, subject)
        case Categorical():
            return _classes(target, forecast, truth)
        case _:
            assert_never(target)


def _numbers(q: np.ndarray, y: np.ndarray, subject: np.ndarray) -> list[float]:
    middle, error = q[:, 2], np.abs(q[:, 2] - y)
    width = q[:, 3] - q[:, 1]
    each = 1 / np.bincount(subject)[subject]
    pinball = [sk.mean_pinball_loss(y, q[:, i], alpha=level) for i, level in enumerate(LEVELS)]
    return [
        sk.mean_absolute_error(y, middle),
        sk.mean_absolute_error(y, middle, sample_weight=each),
        sk.root_mean_squared_error(y, middle),
        2 * float(np.mean(pinball)),
        float(np.mean((q[:, 1] <= y) & (y <= q[:, 3]))),
        float(np.mean((q[:, 0] <= y) & (y <= q[:, 4]))),
        float(np.mean(q[:, 4] - q[:, 0])),
        sk.r2_score(y, middle),
        float(np.mean(pinball)),
        float(np.average(error, weights=1 / width)),
        abs(float(np.mean((q[:, 1] < y) & (y < q[:, 3]))) - 0.5),
    ]


def _classes(target: Categorical, p: np.ndarray, y: np.ndarray) -> list[float]:
    called, event = p.argmax(1), target.positive
    confusion = sk.confusion_matrix(y, called)
    hit, true, made, total = np.diag(confusion), confusion.sum(1), confusion.sum(0), confusion.sum()
    bca = float(np.mean(hit / true + (total - true - made + hit) / (total - true)) / 2)
    shared = [bca, sk.accuracy_score(y, called), sk.log_loss(y, p), sk.brier_score_loss(y, p, scale_by_half=False)]
    if event is None:
        rates = sk.precision_recall_fscore_support(y, called, average="macro")[:3]
        ranked = [sk.roc_auc_score(y, p, multi_class="ovo")]
        ranked += [float(np.mean([sk.average_precision_score(y == k, p[:, k]) for k in range(p.shape[1])]))]
        specificity = float(np.mean((total - true - made + hit) / (total - true)))
        best = p.max(1)
        return [
            *shared, *rates, *ranked, specificity, sk.balanced_accuracy_score(y, called),
            sk.matthews_corrcoef(y, called), _error(best, called == y),
        ]  # fmt: skip
    came, said = y >= event, p[:, event:].sum(1)
    two = said > 0.5
    logit = np.log(said.clip(1e-6) / (1 - said).clip(1e-6))[:, None]
    slope = LogisticRegression(C=np.inf).fit(logit, came)
    return [
        *shared, *sk.precision_recall_fscore_support(came, two, average="binary")[:3], sk.recall_score(~came, ~two),
        sk.roc_auc_score(came, said), sk.average_precision_score(came, said), sk.balanced_accuracy_score(came, two),
        sk.matthews_corrcoef(came, two), _error(said, came), float(slope.coef_[0, 0]), float(slope.intercept_[0]),
    ]  # fmt: skip


def _error(said: np.ndarray, came: np.ndarray) -> float:
    bins = np.minimum((said * 10).astype(int), 9)
    return float(np.abs(np.bincount(bins, said - came, 10)).sum() / len(said))
