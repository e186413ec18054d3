"""Which metrics a target is measured by."""

from framework.evaluate.metrics.base import Metric
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
from framework.evaluate.metrics.regression import CPA, CRPS, MAE, R2, RMSE, WES, Coverage, Pinball, Width
from framework.evaluate.metrics.survival import DynamicAUC, Harrell, IntegratedBrier, Uno
from framework.types import Target

FIRST = 7  # of a target's metrics, those that a terminal has room for


def headline(target: Target) -> Metric:
    """The MAE of a number, the AUC of an event, else the mAUC; Uno's C-index of the time to an event."""
    if target.horizons:
        return Uno(horizons=target.horizons)
    if not target.levels:
        return MAE(_unit(target))
    return MAUC() if target.positive is None else AUC(positive=target.positive)


def metrics_for(target: Target) -> tuple[Metric, ...]:
    """The metrics of a target, the headline first, then in order of how often they are asked for."""
    if target.horizons:
        return tuple(metric(horizons=target.horizons) for metric in (Uno, Harrell, IntegratedBrier, DynamicAUC))
    if not target.levels:
        return _of_numbers(target)
    event = target.positive
    called = [Precision, Specificity, F1, Matthews] if event is None else [Precision, Recall, Specificity, F1, Matthews]
    slope = [] if event is None else [CalibrationSlope(positive=event), CalibrationIntercept(positive=event)]
    return (
        headline(target),
        BCA(),
        Accuracy(),
        BalancedAccuracy(positive=event),
        LogLoss(),
        Brier(),
        AUPRC(positive=event),
        *(kind(positive=event) for kind in called),
        CalibrationError(positive=event),
        *slope,
    )


def _of_numbers(target: Target) -> tuple[Metric, ...]:
    unit = _unit(target)
    return (
        MAE(unit),
        MAE(unit, "subject"),
        RMSE(unit),
        CRPS(unit),
        Coverage(inner=1),
        Coverage(inner=0),
        Width(unit),
        R2(),
        Pinball(unit),
        WES(unit),
        CPA(),
    )


def _unit(target: Target) -> str | None:
    return target.units if target.units != "1" else None
