"""Forecasts of every tested subject, as data that the page draws on request."""

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from framework.evaluate.outcomes import Outcomes
from framework.types import LEVELS, Event

MOST = 400_000  # numbers of a page; some 2 MB


def explorer(outcomes: Sequence[Outcomes], history: pd.DataFrame | None, shown: Sequence[str]) -> dict | None:
    """Targets, subjects and forecasts of the first repeat; None where there is no history to draw.

    A page that would grow too large keeps the model of each target in `shown` alone, then leaves out the last
    subjects; `left_out` counts them. Events have no course to draw.
    """
    some = [(one, model) for one, model in zip(outcomes, shown, strict=True) if not isinstance(one.target, Event)]
    if history is None or not some:
        return None
    subjects = list(dict.fromkeys(subject for one, _ in some for subject in one.subjects))
    models = [list(one.forecasts) for one, _ in some]
    if _size([one for one, _ in some], models) > MOST:
        models = [[model] for _, model in some]
    size = _size([one for one, _ in some], models)
    kept = subjects if size <= MOST else subjects[: max(1, len(subjects) * MOST // size)]
    seen = {target: rows for target, rows in history.groupby("target")}
    return {
        "levels": LEVELS,
        "subjects": kept,
        "left_out": len(subjects) - len(kept),
        "targets": [
            _target(one, model, names, seen.get(one.target.name), kept)
            for (one, model), names in zip(some, models, strict=True)
        ],
    }


def as_script(found: dict) -> str:
    """As JSON that no text of the run can end early."""
    return json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _size(outcomes: Sequence[Outcomes], models: Sequence[Sequence[str]]) -> int:
    return sum(one.forecasts[m][0].size for one, names in zip(outcomes, models, strict=True) for m in names)


def _target(one: Outcomes, shown: str, models: Sequence[str], seen: pd.DataFrame | None, kept: Sequence[str]) -> dict:
    place = {subject: i for i, subject in enumerate(kept)}
    own = [place.get(subject, -1) for subject in one.subjects]
    some = np.flatnonzero(np.array(own)[one.subject] >= 0)
    levels = list(one.levels)
    known = (
        []
        if seen is None
        else [
            [place[s], _short(float(t)), levels.index(v) if levels else _short(float(v))]
            for s, t, v in zip(seen["subject"], seen["time"], seen["value"], strict=True)
            if s in place
        ]
    )
    drawn = one.forecasts.__getitem__ if levels else one.quantiles
    return {
        "name": one.target.name,
        "units": one.units or "",
        "classes": levels,
        "shown": shown,
        "seen": known,
        "queries": [
            [
                own[one.subject[q]],
                int(one.origin[q]),
                *(_short(float(x[q])) for x in (one.origin_time, one.time, one.truth)),
                int(one.beyond[0, q]),
            ]
            for q in some
        ],
        "forecasts": {model: [[_short(float(x)) for x in row] for row in drawn(model)[0, some]] for model in models},
    }


def _short(value: float) -> float:
    """Four digits: more than a figure shows."""
    return float(f"{value:.4g}")
