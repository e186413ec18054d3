"""Which metrics a target is measured by."""

from framework.evaluate.classification import AUC, BCA, MAUC, Accuracy, Brier, LogLoss
from framework.evaluate.metric import Metric
from framework.evaluate.regression import MAE, RMSE, Coverage, Pinball, Width
from framework.types import Target


def metrics_for(target: Target) -> tuple[Metric, ...]:
    """The metrics of a target, the headline first: the MAE of a number, the AUC of an event, else the mAUC."""
    if target.levels:
        headline = MAUC() if target.positive is None else AUC(positive=target.positive)
        return headline, BCA(), Accuracy(), LogLoss(), Brier()
    unit = target.units if target.units != "1" else None
    return (
        MAE(unit),
        MAE(unit, "subject"),
        RMSE(unit),
        Pinball(unit),
        Coverage(inner=1),
        Coverage(inner=0),
        Width(unit),
    )
