"""TADPOLE submissions: a saved run's forecasts month by month, and their scores once D4 is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool
from omegaconf import DictConfig

from framework import digests
from framework.data.cohort.dates import dates, setting
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples, QuerySet, known_at
from framework.data.queries.origins import last_of
from framework.data.splits.groups import first_values
from framework.errors import UserError
from framework.evaluate.terminal_table import abbreviations
from framework.forecast.base import Fitted
from framework.forecast.predict import answers
from framework.history import exceeds
from framework.tadpole.score import (
    COLUMNS,
    DIAGNOSES,
    NUMBERS,
    PROBABILITIES,
    check,
    read_submission,
    read_truth,
    score,
)
from framework.tadpole.split import marked
from framework.types import LEVELS, Categorical, Layout, Query

MONTHS, BOARD_MONTHS = 60, 84  # of the challenge, from 2018-01 on; of its leaderboard, from 2010-05 on
BOARD, TESTED = "leaderboard", "LB2"
NARROWEST = 1e-6  # of a 50% interval: an empty one would weigh infinitely in the challenge's weighted errors


def submission(fitted: Fitted, cohort: Cohort, shape: Layout, start: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Forecasts for 60 months from `start` (YYYY-MM) on of everybody in D2, from the last visit; one row a month.

    A cohort with the challenge's leaderboard is asked as that asks: for 84 months, of everybody in LB2, from the last
    visit in LB2. The second table says which of them lie beyond the follow-up seen in training. Raises UserError where
    the run does not forecast what the challenge asks for.
    """
    _asked_for(shape)
    asked = _origins(cohort)
    rows = np.flatnonzero(asked.any(1)).tolist()
    count = BOARD_MONTHS if _has_board(cohort) else MONTHS
    months = pd.date_range(f"{start}-01", periods=count, freq="MS")
    first = dates(cohort)[:, :1]
    days = np.array([setting(str(month.date()), "submission") for month in months])
    # for subjects who are not asked about the last visit, which is never read
    last = np.where(asked.any(1), asked.argmax(1), cohort.valid.sum(1) - 1)[:, None].repeat(count, 1)
    time = np.maximum(days - first, np.take_along_axis(cohort.times, last, 1))  # a month that is past is today
    query = Query(time, last, *known_at(cohort, shape, last, time), np.ones_like(last, bool))
    predictions = answers(fitted, Examples(cohort, shape, "unlabelled"), rows, QuerySet(query, last, {}))
    table = pd.DataFrame(
        {
            "RID": np.repeat([int(cohort.subjects[row]) for row in rows], count),
            "Forecast Month": np.tile(np.arange(1, count + 1), len(rows)),
            "Forecast Date": np.tile(months.strftime("%Y-%m"), len(rows)),
            **dict(zip(PROBABILITIES, predictions["diagnosis"].reshape(-1, 3).T, strict=True)),
            **{name: numbers for one in NUMBERS for name, numbers in _interval(one, predictions[one]).items()},
        },
        columns=list(COLUMNS),
    )
    check(table, "the submission")
    ahead = (time - np.take_along_axis(cohort.times, last, 1))[rows]
    beyond = table[["RID", "Forecast Month"]].assign(beyond_follow_up=exceeds(ahead, fitted.follow_up).ravel())
    return table, beyond


def evaluate(config: DictConfig) -> None:
    """Score a submission against a D4 table; print the scores and keep them beside the submission."""
    path = Path(config.submission)
    if (path.parent / digests.FILE).exists():  # as predict left it
        digests.check(path.parent, path.name)
    found = score(
        read_submission(path),
        read_truth(Path(config.ground_truth)),
        config.resamples,
        config.seed,
        config.official_ties,
    )
    path.with_suffix(".scores.json").write_text(json.dumps(found, indent=1))
    for name, one in found.items():
        print(f"{name:20} {one['value']:8.4g} [{one['low']:.4g}, {one['high']:.4g}]")
    print("\n".join(["in brackets: 95% intervals over subjects", *abbreviations(list(found))]))


def _asked_for(shape: Layout) -> None:
    targets = {target.name: target for target in shape.targets}
    absent = [name for name in ("diagnosis", *NUMBERS) if name not in targets]
    diagnosis = targets.get("diagnosis")
    if absent or not (isinstance(diagnosis, Categorical) and diagnosis.levels == DIAGNOSES):
        raise UserError(
            f"the run forecasts {list(targets)}; a TADPOLE submission needs diagnosis ({', '.join(DIAGNOSES)}), "
            f"{' and '.join(NUMBERS)}: fit with data=tadpole"
        )


def _origins(cohort: Cohort) -> Bool[np.ndarray, "n t"]:
    """The origin of each subject: the last visit in LB2, or of those in D2 (all, where it is unsaid) the last.

    Raises UserError where there is no subject to forecast.
    """
    if _has_board(cohort):
        asked, what = last_of(marked(cohort, BOARD, TESTED)), f"visit is in {TESTED}"
    else:
        asked, what = last_of(cohort.valid), "subject has D2=1"
        if "D2" in [variable.name for variable in cohort.schema.static]:
            _, value, has = first_values(cohort, "D2")
            asked = asked & (has & (value == 1))[:, None]
    if not asked.any():
        raise UserError(f"no {what}; there is no subject to forecast")
    return asked


def _has_board(cohort: Cohort) -> bool:
    return BOARD in [variable.name for variable in cohort.schema.variables]


def _interval(name: str, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """The point forecast between the ends of the 50% interval, which holds it."""
    low, high = (numbers[..., LEVELS.index(level)].ravel() for level in (0.25, 0.75))
    point = numbers[..., len(LEVELS)].ravel()
    low, high = np.minimum(low, point - NARROWEST / 2), np.maximum(high, point + NARROWEST / 2)
    return {name: point, f"{name} 50% CI lower": low, f"{name} 50% CI upper": high}
