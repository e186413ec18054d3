"""A saved run applied to new patients, who need no targets."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from framework.config.received import configuration, manifest_of, readable
from framework.config.validate import check
from framework.data.cohort.quoting import as_csv, as_read
from framework.data.cohort.ranges import far_outside
from framework.data.cohort.schema import Schema
from framework.data.cohort.schema_alignment import align
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples, Questions, known_at
from framework.data.queries.layout import layout
from framework.digests import check as check_files
from framework.errors import UserError
from framework.evaluate.outcomes import answer_names
from framework.files import write_atomic
from framework.forecast.predict import answers
from framework.history import exceeds
from framework.runs.data_loading import cohort_of, copy_ledger, events_of, facts, resolution_of
from framework.runs.execute import use_compilation_cache
from framework.runs.folder import RunFolder
from framework.runs.identity import digest_of
from framework.runs.job import forecaster_of
from framework.runs.new_data import data_of
from framework.tadpole.submission import submission
from framework.types import Categorical, Event, Layout, Number, Query, Target

LEGEND = (
    "origin: the subject's last visit, from which it is forecast; ahead: years from there to the time asked about; "
    "q05 to q95: quantiles, in units; p_<level>: probability of a level; s_<years>: of no event so many years after "
    "the origin"
)


def predict(config: DictConfig) -> None:
    """Forecast every subject of a cohort from its last visit on; a table `forecasts.csv` in the run's folder."""
    use_compilation_cache()
    run = Path(config.run)
    name, recipe, schema, fitted_on, shape, data = _saved(run, list(config.trust))
    if not config.ahead or min(config.ahead) <= 0:
        raise UserError(f"ahead is {list(config.ahead)}; expected one or more numbers of years above 0")
    OmegaConf.set_struct(config, False)
    config.data = data_of(config.data, data)
    check(config, config.trust)
    cohort = align(cohort_of(config, alone=True), schema)
    warnings = list(far_outside(cohort, fitted_on))
    what = OmegaConf.to_container(config, resolve=True)
    assert isinstance(what, dict)
    recipe_of = {"fitted": {name: OmegaConf.to_container(recipe)}, "parameters": digest_of(run / "models" / name)}
    if config.submission is None:
        questions = _ahead(cohort, shape, [float(years) for years in config.ahead], dict(config.known or {}))
        own = {"ahead": [float(years) for years in config.ahead], "known": dict(config.known or {})}
    else:
        questions, own = None, {"submission": config.submission}
    who = {"runs": config.runs, "experiment": config.experiment, "reads": repr(shape), "schema": schema.to_json()}
    folder = RunFolder.of(who | recipe_of | own, cohort.fingerprint)
    table = folder.path / ("forecasts.csv" if config.submission is None else "submission.csv")

    def make() -> None:
        with readable(run):
            fitted = forecaster_of(recipe, recipe.model).load(run / "models" / name, shape)
        if questions is None:
            made, beyond = submission(fitted, cohort, shape, config.submission)
            write_atomic(folder.path / "beyond_follow_up.csv", as_csv(beyond))
            targets = {}
        else:
            examples, everybody = Examples(cohort, shape, "ahead"), range(len(cohort.subjects))
            told = answers(fitted, examples, everybody, questions, curves=False)
            follow_up = fitted.follow_up
            made = pd.concat([_table(cohort, questions.query, shape, follow_up, *one) for one in told.items()])
            targets = {"targets": list(told)}
        write_atomic(table, as_csv(made))
        copy_ledger(config.data.store, folder.path)
        folder.note(models=[name], **targets, warnings={name: warnings} if warnings else {})

    folder.once(what, facts(config, cohort), make)
    folder.check(table.name)
    found = _read(table)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if config.submission is not None:
        print(f"submission: {table} ({found['RID'].nunique()} subjects)")
        return
    print(LEGEND)
    print(found.to_string(index=False, max_rows=20, float_format=lambda x: f"{x:.4g}", na_rep=""))
    print(f"forecasts: {table}")


def _saved(run: Path, trust: list[str]) -> tuple[str, DictConfig, Schema, dict[str, list[float]], Layout, DictConfig]:
    """The forecaster of a finished run of experiments.forecast: its name, its model and intervals, the schema and the
    ranges of what it was fitted on, and how that was read.
    """
    file = run / "config.yaml"
    if not file.exists():
        raise UserError(
            f"no run at {run}; name a folder that experiments.forecast printed, such as runs/forecast/<hash>"
        )
    check_files(run, "config.yaml", "manifest.json", "models")
    config, manifest = configuration(run, tuple(trust)), manifest_of(run)
    if not (run / "models").exists() or "finished" not in manifest:
        raise UserError(f"the run at {run} keeps no fitted model; name a finished run of experiments.forecast")
    name = list(config.fitted)[-1]
    with readable(run):
        schema = Schema.from_json(manifest["schema"])
        targets, hidden = list(config.data.targets), list(config.data.hidden)
        shape = layout(schema, targets, hidden, events_of(config), resolution_of(config))
        fitted_on = {str(variable): [float(end) for end in ends] for variable, ends in manifest["ranges"].items()}
    if "intervals" not in config:
        raise UserError(f"the run at {run} was made before intervals were calibrated; repeat its forecast")
    recipe = OmegaConf.create({"model": config.fitted[name], "intervals": config.intervals})
    return name, recipe, schema, fitted_on, shape, config.data


def _units(target: Target) -> str:
    """In what the numbers of a forecast are; a number without a unit is 1."""
    match target:
        case Number():
            return target.units
        case Categorical() | Event():
            return "probability"
        case _:
            assert_never(target)


def _read(table: Path) -> pd.DataFrame:
    """The forecasts as they were written; names are text, whatever they look like."""
    texts, columns = ("subject", "origin", "target", "units"), pd.read_csv(table, nrows=0).columns
    found = pd.read_csv(
        table,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={column: [""] for column in columns if column not in texts},
    )
    return as_read(found)


def _ahead(cohort: Cohort, shape: Layout, ahead: list[float], planned: Mapping[str, int | float | str]) -> Questions:
    """One question for each subject and horizon, from its last visit."""
    unknown = sorted(set(planned) - {column.name for column in shape.known})
    if unknown:
        raise UserError(f"known names {unknown[0]!r}; the run knows ahead {[column.name for column in shape.known]}")
    last = np.repeat(cohort.valid.sum(1)[:, None] - 1, len(ahead), axis=1)
    time = np.take_along_axis(cohort.times, last, 1) + np.asarray(ahead)
    known, there = known_at(cohort, shape, last, time)
    for place, column in enumerate(shape.known):
        if column.name in planned:
            known[..., place] = _number(cohort.schema, column.name, planned[column.name])
            there[..., place] = True
    return Questions(Query(time, last, known, there, np.ones_like(last, bool)), last, {})


def _number(schema: Schema, name: str, value: int | float | str) -> float:
    """A planned value as the cohort holds it: a number, or a level's place."""
    try:
        return schema.variable(name).encode(str(value))
    except UserError as error:
        raise UserError(f"known.{name}: {error}") from None


def _table(
    cohort: Cohort, query: Query, shape: Layout, follow_up: float, name: str, numbers: np.ndarray
) -> pd.DataFrame:
    target = next(t for t in shape.targets if t.name == name)
    count, width = query.time.shape
    origin = np.take_along_axis(cohort.times, np.asarray(query.origin), 1)
    columns = {
        "subject": np.repeat(cohort.subjects, width),
        "origin": [cohort.visits[i][query.origin[i, j]] for i in range(count) for j in range(width)],
        "ahead": (np.asarray(query.time) - origin).ravel(),
        "target": name,
        "units": _units(target),
        "beyond_follow_up": exceeds((np.asarray(query.time) - origin).ravel(), follow_up),
    }
    names = ("survival",) if isinstance(target, Event) else answer_names(target)
    return pd.DataFrame(columns | dict(zip(names, numbers.reshape(-1, numbers.shape[-1]).T, strict=True)))
