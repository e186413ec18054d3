"""What a job is judged by: the value it returns, and numbers of what its run cost."""

import json
import math
from collections.abc import Sequence

from framework.digests import check
from framework.errors import UserError
from framework.runs.run_value import Ran
from framework.sweeps.search.settings import LOSS

SHARED = ("seconds", "compile_seconds", "step_flops", "step_bytes")  # by the members of one program


def values(returned: object, names: Sequence[str]) -> list[float] | None:
    """The objectives of a job by what it returned; None where it failed or one of them is no finite number.

    A command that returns several numbers is judged by them, in the order of the names. Raises UserError where there
    are more or fewer, or where costs are asked of something that left no run.
    """
    if returned is None:
        return None
    if isinstance(returned, Sequence):
        if len(returned) != len(names):
            raise UserError(
                f"the command returned {len(returned)} values; expected one an objective: {', '.join(names)}"
            )
        told = [float(value) for value in returned]
    else:
        told = [_value(returned, name) for name in names]
    return told if all(math.isfinite(value) for value in told) else None


def _value(returned: object, name: str) -> float:
    if name == LOSS and isinstance(returned, (int, float)):
        return float(returned)
    folder = returned.folder if isinstance(returned, Ran) else None
    if folder is None:
        raise UserError(
            f"hydra.sweeper.objectives.{name}: the command left no run whose cost could be read; leave it out"
        )
    check(folder, "cost.json")
    costs = json.loads((folder / "cost.json").read_text())
    cost = list(costs.values())[-1] if costs else {}  # the forecaster under study is the last
    value = cost.get(name)
    if value is None:
        raise UserError(f"hydra.sweeper.objectives.{name}: {folder} did not measure it; leave it out for this model")
    return value / cost["members"] if name in SHARED else float(value)
