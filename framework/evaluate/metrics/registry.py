"""Which metrics a target is measured by."""

from typing import assert_never

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
from framework.types import Categorical, Event, Number, Target

FIRST = 7  # of a target's metrics, those that a terminal has room for


def headline(target: Target) -> Metric:
    """The MAE of a number, the AUC of an event, else the mAUC; Uno's C-index of the time to an event."""
    return metrics_for(target)[0]


def metrics_for(target: Target) -> tuple[Metric, ...]:
    """The metrics of a target, the headline first, then in order of how often they are asked for."""
    match target:
        case Number():
            return _of_number(target)
        case Categorical():
            return _of_classes(target)
        case Event():
            return tuple(metric(horizons=target.horizons) for metric in (Uno, Harrell, IntegratedBrier, DynamicAUC))
        case _:
            assert_never(target)


def _of_classes(target: Categorical) -> tuple[Metric, ...]:
    event = target.positive
    called = [Precision, Specificity, F1, Matthews] if event is None else [Precision, Recall, Specificity, F1, Matthews]
    slope = [] if event is None else [CalibrationSlope(positive=event), CalibrationIntercept(positive=event)]
    return (
        MAUC() if event is None else AUC(positive=event),
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


def _of_number(target: Number) -> tuple[Metric, ...]:
    unit = target.units if target.units != "1" else None
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
