"""Evaluation of a run: forecasts of the test subjects, their outcomes, and the files of scores."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from framework.config.model_configs import REFERENCES
from framework.data.cohort.characteristics import characteristics
from framework.data.cohort.quoting import quoted
from framework.data.queries.examples import Examples
from framework.data.splits.split import ROLES, Split
from framework.evaluate import leaderboard, outcomes, subgroups
from framework.evaluate.outcomes import Outcomes
from framework.files import write_atomic
from framework.forecast.base import Fitted
from framework.forecast.predict import answers
from framework.runs.model_results import ModelResults
from framework.types import Event, Interval, Target


def write_costs(results: Mapping[str, ModelResults], run: Path) -> None:
    """Write what fitting took, and what was selected while fitting."""
    costs = {name: model.metadata["cost"] for name, model in results.items() if model.metadata["cost"]}
    write_atomic(run / "cost.json", json.dumps(costs, indent=1))
    chosen = {name: model.metadata["chosen"] for name, model in results.items() if any(model.metadata["chosen"])}
    write_atomic(run / "chosen.json", json.dumps(chosen, indent=1))


def write_scores(by_target: Sequence[Outcomes], examples: Examples, resamples: int, seed: int, run: Path) -> None:
    """Write outcomes with their forecasts, the leaderboard, metrics of subgroups, and the subjects' history."""
    outcomes.write(by_target, run)
    rows = leaderboard.leaderboard(by_target, REFERENCES, resamples, seed)
    leaderboard.write(rows, resamples, run)
    labels = subgroups.subgroup_labels(examples.cohort, by_target[0].subjects) if by_target else {}  # of every target
    subgroups.write(subgroups.subgroups(by_target, labels, resamples, seed), run)
    _write_history(examples, by_target, run)


def write_participants(examples: Examples, repeats: Sequence[Sequence[Split]], run: Path) -> None:
    """Write the characteristics of all subjects and, where a study has a single split, of each role."""
    splits = [split for repeat in repeats for split in repeat]
    groups = {"all": np.ones(len(splits[0].test), bool)}
    if len(splits) == 1:
        groups |= {role: np.asarray(getattr(splits[0], role)) for role in ROLES}
    participants = characteristics(examples.cohort, groups)
    (run / "participants.json").write_text(json.dumps(participants, indent=1, allow_nan=False))


def forecast_test_rows(
    examples: Examples, repeats: Sequence[Sequence[Split]], members: Sequence[Fitted]
) -> dict[str, Float[np.ndarray, "r n q p"]]:
    """Return the members' forecasts of every test subject, by target."""
    rows, remaining = _test_rows(repeats), iter(members)
    forecasts: dict[str, Float[np.ndarray, "r n q p"]] = {}
    for r, repeat in enumerate(repeats):
        for split in repeat:
            fold_rows = np.flatnonzero(split.test)
            for target, numbers in answers(next(remaining), examples, fold_rows, examples.eval_queries).items():
                table = forecasts.setdefault(target, np.zeros((len(repeats), len(rows), *numbers.shape[1:])))
                table[r, np.searchsorted(rows, fold_rows)] = numbers
    return forecasts


def outcomes_by_target(
    examples: Examples,
    train_examples: Examples,
    repeats: Sequence[Sequence[Split]],
    results: Mapping[str, ModelResults],
) -> list[Outcomes]:
    """Return every forecast of a test subject whose outcome was observed, by target."""
    rows = _test_rows(repeats)
    fold = np.zeros((len(repeats), len(rows)), int)
    follow_up = np.zeros((len(repeats), len(rows)))
    for r, repeat in enumerate(repeats):
        for k, split in enumerate(repeat):
            places = np.searchsorted(rows, np.flatnonzero(split.test))
            fold[r, places] = k
            follow_up[r, places] = train_examples.longest_horizon(split.train | split.validation)
    return [
        _outcomes(
            examples,
            target,
            rows,
            fold,
            follow_up,
            {name: model.forecasts[target.name] for name, model in results.items() if target.name in model.forecasts},
        )
        for target in examples.layout.targets
    ]


def _test_rows(repeats: Sequence[Sequence[Split]]) -> Int[np.ndarray, " n"]:
    return np.flatnonzero(np.any([split.test for split in repeats[0]], axis=0))


def _outcomes(
    examples: Examples,
    target: Target,
    rows: np.ndarray,
    fold: np.ndarray,
    follow_up: np.ndarray,
    forecasts: Mapping[str, np.ndarray],
) -> Outcomes:
    query, truth = jax.tree.map(np.asarray, (examples.eval_queries.query, examples.eval_queries.truth[target.name]))
    if isinstance(target, Event):  # subjects who were never at risk have no outcome of the event
        at_risk = truth.observed[rows].any(1)
        rows, fold, follow_up = rows[at_risk], fold[:, at_risk], follow_up[:, at_risk]
        forecasts = {name: numbers[:, at_risk] for name, numbers in forecasts.items()}
    i, q = np.nonzero(truth.observed[rows])
    origin = query.origin[rows][i, q]
    return Outcomes(
        target=target,
        subjects=tuple(examples.subjects[row] for row in rows),
        subject=i,
        fold=fold[:, i],
        origin=origin,
        origin_time=examples.cohort.times[rows][i, origin],
        time=query.time[rows][i, q],
        truth=(np.stack([truth.lo, truth.hi], -1) if isinstance(truth, Interval) else truth.value)[rows][i, q],
        forecasts={name: numbers[:, i, q] for name, numbers in forecasts.items()},
        follow_up=follow_up[:, i],
    )


def _write_history(examples: Examples, by_target: Sequence[Outcomes], run: Path) -> None:
    """Write the observed values of the targets of every test subject, for the report's trajectories."""
    cohort = examples.cohort
    place = {subject: i for i, subject in enumerate(cohort.subjects)}
    with (run / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("subject", "visit", "time", "target", "value"))
        for outcome in by_target:
            if isinstance(outcome.target, Event):
                continue  # an event is not a variable
            column, levels = outcome.target.index, outcome.levels
            for subject in outcome.subjects:
                i = place[subject]
                for j in np.flatnonzero(cohort.observed[i, :, column]):
                    value = cohort.values[i, j, column]
                    shown = levels[int(value)] if levels else value
                    rows.writerow(map(quoted, (subject, j, cohort.times[i, j], outcome.target.name, shown)))
