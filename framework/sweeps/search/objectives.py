"""Objectives of a job: the value that it returns, and the costs of its run."""

import json
import math
from collections.abc import Sequence

from framework.digests import check
from framework.errors import UserError
from framework.runs.run_value import RunValue
from framework.sweeps.search.settings import LOSS

SHARED_COSTS = ("seconds", "compile_seconds", "step_flops", "step_bytes")  # costs that the members of one program share


def read_objectives(returned: object, names: Sequence[str]) -> list[float] | None:
    """Return the objectives of a job from its returned value; None where it failed or one of them is not finite.

    Several returned numbers are the objectives, in the order of the names. Raise UserError where there are more or
    fewer, or where costs are objectives of a command that saves no run.
    """
    if returned is None:
        return None
    if isinstance(returned, Sequence):
        if len(returned) != len(names):
            raise UserError(
                f"the command returned {len(returned)} values; expected one for each objective: {', '.join(names)}"
            )
        values = [float(value) for value in returned]
    else:
        values = [_read_objective(returned, name) for name in names]
    return values if all(math.isfinite(value) for value in values) else None


def _read_objective(returned: object, name: str) -> float:
    if name == LOSS and isinstance(returned, (int, float)):
        return float(returned)
    folder = returned.folder if isinstance(returned, RunValue) else None
    if folder is None:
        raise UserError(f"hydra.sweeper.objectives.{name}: the command saved no run with a cost; leave it out")
    check(folder, "cost.json")
    costs = json.loads((folder / "cost.json").read_text())
    cost = list(costs.values())[-1] if costs else {}  # the forecaster under study is the last
    value = cost.get(name)
    if value is None:
        raise UserError(f"hydra.sweeper.objectives.{name}: {folder} did not measure it; leave it out for this model")
    return value / cost["members"] if name in SHARED_COSTS else float(value)
