"""Forecasts of a saved run for new patients, who need no targets."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from framework.config.received import explain_damage, read_config, read_manifest
from framework.config.validate import validate_config
from framework.data.cohort.quoting import as_csv, as_read
from framework.data.cohort.ranges import far_outside
from framework.data.cohort.schema import Schema
from framework.data.cohort.schema_alignment import align
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples, QuerySet, known_at
from framework.data.queries.layout import layout
from framework.digests import check as check_files
from framework.errors import UserError
from framework.evaluate.outcomes import answer_names
from framework.files import write_atomic
from framework.forecast.predict import answers
from framework.history import exceeds
from framework.runs.data_loading import build_events, copy_ledger, describe_data, load_cohort, resolution_years
from framework.runs.execute import use_compilation_cache
from framework.runs.folder import RunFolder
from framework.runs.identity import digest_files
from framework.runs.job import build_forecaster
from framework.runs.new_data import complete_data_config
from framework.tadpole.submission import submission
from framework.types import Categorical, Event, Layout, Number, Query, Target

logger = logging.getLogger(__name__)

LEGEND = (
    "origin: the subject's last visit, from which it is forecast; ahead: years from the origin to the forecast time; "
    "q05 to q95: quantiles, in units; p_<level>: probability of a level; s_<years>: probability of no event so many "
    "years after the origin"
)


def predict(config: DictConfig) -> None:
    """Forecast every subject of a cohort from its last visit; write the table `forecasts.csv` in the run's folder."""
    use_compilation_cache()
    run = Path(config.run)
    name, model_config, schema, train_ranges, shape, data = _load_run(run, list(config.trust))
    if not config.ahead or min(config.ahead) <= 0:
        raise UserError(f"ahead is {list(config.ahead)}; expected one or more numbers of years above 0")
    OmegaConf.set_struct(config, False)
    config.data = complete_data_config(config.data, data)
    validate_config(config, config.trust)
    cohort = align(load_cohort(config, alone=True), schema)
    warnings = list(far_outside(cohort, train_ranges))
    resolved_config = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved_config, dict)
    model = {"fitted": {name: OmegaConf.to_container(model_config)}, "parameters": digest_files(run / "models" / name)}
    if config.tadpole_submission is None:
        horizons, planned = [float(years) for years in config.ahead], dict(config.future or {})
        queries = _future_queries(cohort, shape, horizons, planned)
        task = {"ahead": horizons, "future": planned}
    else:
        queries, task = None, {"tadpole_submission": config.tadpole_submission}
    study = {"runs": config.runs, "experiment": config.experiment, "reads": repr(shape), "schema": schema.to_json()}
    folder = RunFolder.of(study | model | task, cohort.fingerprint)
    table = folder.path / ("forecasts.csv" if config.tadpole_submission is None else "submission.csv")

    def make() -> None:
        with explain_damage(run):
            fitted = build_forecaster(model_config, model_config.model).load(run / "models" / name, shape)
        if queries is None:
            forecasts, beyond = submission(fitted, cohort, shape, config.tadpole_submission)
            write_atomic(folder.path / "beyond_follow_up.csv", as_csv(beyond))
            targets = {}
        else:
            examples, subjects = Examples(cohort, shape, "unlabelled"), range(len(cohort.subjects))
            by_target = answers(fitted, examples, subjects, queries, curves=False)
            tables = [_table(cohort, queries.query, shape, fitted.follow_up, *item) for item in by_target.items()]
            forecasts, targets = pd.concat(tables), {"targets": list(by_target)}
        write_atomic(table, as_csv(forecasts))
        copy_ledger(config.data.store, folder.path)
        folder.update_manifest(models=[name], **targets, warnings={name: warnings} if warnings else {})

    folder.run_once(resolved_config, describe_data(config, cohort), make)
    folder.check(table.name)
    written = _read_forecasts(table)
    for warning in warnings:
        logger.warning("%s", warning)
    if config.tadpole_submission is not None:
        print(f"submission: {table} ({written['RID'].nunique()} subjects)")
        return
    print(LEGEND)
    print(written.to_string(index=False, max_rows=20, float_format=lambda x: f"{x:.4g}", na_rep=""))
    print(f"forecasts: {table}")


def _load_run(
    run: Path, trust: list[str]
) -> tuple[str, DictConfig, Schema, dict[str, list[float]], Layout, DictConfig]:
    """Read the forecaster of a finished run of experiments.forecast: its name, the configuration of its model and
    intervals, the schema and the ranges of its training data, the layout, and the configuration of the data.
    """
    file = run / "config.yaml"
    if not file.exists():
        raise UserError(
            f"no run at {run}; name a folder that experiments.forecast printed, such as runs/forecast/<hash>"
        )
    check_files(run, "config.yaml", "manifest.json", "models")
    config, manifest = read_config(run, tuple(trust)), read_manifest(run)
    if not (run / "models").exists() or "finished" not in manifest:
        raise UserError(f"the run at {run} has no fitted model; name a finished run of experiments.forecast")
    name = list(config.fitted)[-1]
    with explain_damage(run):
        schema = Schema.from_json(manifest["schema"])
        targets, hidden = list(config.data.targets), list(config.data.hidden)
        shape = layout(schema, targets, hidden, build_events(config), resolution_years(config))
        train_ranges = {str(variable): [float(end) for end in ends] for variable, ends in manifest["ranges"].items()}
    if "intervals" not in config:
        raise UserError(f"the run at {run} was made before intervals were calibrated; repeat its forecast")
    model_config = OmegaConf.create({"model": config.fitted[name], "intervals": config.intervals})
    return name, model_config, schema, train_ranges, shape, config.data


def _units(target: Target) -> str:
    """Return the units of a target's forecasts."""
    match target:
        case Number():
            return target.units
        case Categorical() | Event():
            return "probability"
        case _:
            assert_never(target)


def _read_forecasts(table: Path) -> pd.DataFrame:
    """Read the forecasts as they were written; names are text, even if they look like numbers."""
    texts, columns = ("subject", "origin", "target", "units"), pd.read_csv(table, nrows=0).columns
    forecasts = pd.read_csv(
        table,
        dtype=dict.fromkeys(texts, str),
        keep_default_na=False,
        na_values={column: [""] for column in columns if column not in texts},
    )
    return as_read(forecasts)


def _future_queries(
    cohort: Cohort, shape: Layout, horizons: list[float], planned: Mapping[str, int | float | str]
) -> QuerySet:
    """Return one query for each subject and horizon, from the subject's last visit."""
    unknown = sorted(set(planned) - {column.name for column in shape.known})
    if unknown:
        raise UserError(
            f"future names {unknown[0]!r}; expected future covariates of the run, "
            f"{[column.name for column in shape.known]}"
        )
    last = np.repeat(cohort.valid.sum(1)[:, None] - 1, len(horizons), axis=1)
    time = np.take_along_axis(cohort.times, last, 1) + np.asarray(horizons)
    future, observed = known_at(cohort, shape, last, time)
    for place, column in enumerate(shape.known):
        if column.name in planned:
            future[..., place] = _encode_planned(cohort.schema, column.name, planned[column.name])
            observed[..., place] = True
    return QuerySet(Query(time, last, future, observed, np.ones_like(last, bool)), last, {})


def _encode_planned(schema: Schema, name: str, value: int | float | str) -> float:
    """Encode a planned value as the cohort holds it: a number, or a level's index."""
    try:
        return schema.variable(name).encode(str(value))
    except UserError as error:
        raise UserError(f"future.{name}: {error}") from None


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
