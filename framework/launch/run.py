"""One run, top to bottom: fit, forecast, evaluate, report."""

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig, OmegaConf

from framework.data.examples import Examples
from framework.data.split import Split
from framework.data.store import exists
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes
from framework.evaluate.outcomes import Outcomes
from framework.evaluate.text import as_text
from framework.forecast.answers import answers
from framework.forecast.base import Fitted, Forecaster
from framework.launch.check import check
from framework.launch.folder import RunFolder, write_whole
from framework.launch.progress import Training
from framework.launch.study import copy_ledger, examples_of, facts
from framework.train.mesh import is_first

FLOORS = ("last_visit", "slope")


def forecast(config: DictConfig) -> float:
    """Fit one forecaster and both floors on one split; return the forecaster's best validation loss."""
    name = _name()
    models = {floor: _model(floor) for floor in FLOORS if floor != name} | {name: config.model}
    return _run(config, models, lambda splitter, subjects: [[splitter.one(subjects)]], keep=True)


def compare(config: DictConfig) -> float:
    """Fit several forecasters, and both floors, on the same folds; return the best mean validation loss."""
    names, settings = list(dict.fromkeys([*FLOORS, *config.models])), config.settings or {}
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise UserError(
            f"settings names {unknown[0]!r}, which is not in models={list(config.models)}; add or remove it"
        )
    models = {name: _model(name, settings.get(name, ())) for name in names}
    return _run(
        config,
        models,
        lambda splitter, subjects: [splitter.splits(subjects, repeat) for repeat in range(config.repeats)],
        keep=False,
    )


def _run(config: DictConfig, models: Mapping[str, DictConfig], plan, keep: bool) -> float:
    use_compilation_cache()
    _join(config)
    # first, so that a setting that cannot be is told before a cohort is brought in
    forecasters = {name: instantiate(model, _convert_="all") for name, model in models.items()}
    splitter = instantiate(config.split, _convert_="all")
    examples = examples_of(config)
    repeats = plan(splitter, examples.subjects)
    what = OmegaConf.to_container(config, resolve=True)
    assert isinstance(what, dict)
    what["fitted"] = {name: OmegaConf.to_container(model, resolve=True) for name, model in models.items()}
    folder = RunFolder.of(what, examples.cohort.fingerprint)
    if not folder.finished:
        if is_first():
            folder.start(what, facts(config, examples.cohort))
        fitted = {
            name: _fit(name, maker, examples, repeats, config.seed, folder.path) for name, maker in forecasters.items()
        }
        if not is_first():  # it has done its share
            return float("nan")
        if keep:
            for name, members in fitted.items():
                members[0].save(folder.path / "models" / name)
        _write_cost(fitted, folder.path)
        found = _tested(examples, repeats, fitted)
        outcomes.write(found, folder.path)
        rows = leaderboard.leaderboard(found, FLOORS, config.resamples, config.seed)
        leaderboard.write(rows, config.resamples, folder.path)
        _write_history(examples, found, folder.path)
        copy_ledger(config.data.store, folder.path)
        tested = {subject for one in found for subject in one.subjects}
        folder.note(targets=[t.name for t in examples.layout.targets], models=list(models), test_subjects=len(tested))
        from framework.report import html  # loaded here, so that figures do not hold up the first step

        html.build(folder.path)
        folder.finish()
        shutil.rmtree(folder.path / "checkpoints", ignore_errors=True)
    if not is_first():
        return float("nan")
    print(as_text(leaderboard.read(folder.path)[0]))
    print(f"report: {folder.path / 'report.html'}")
    return _objective(folder.path)


def _join(config: DictConfig) -> None:
    """Meet the other hosts. Raises UserError where each would bring the cohort in."""
    hosts = instantiate(config.hosts)
    if hosts.processes > 1 and not exists(config.data.store):
        raise UserError(
            f"no cohort at {config.data.store} yet, and {hosts.processes} processes to make it; "
            "first run experiments.ingest with the same data=..."
        )
    hosts.join()


def _fit(
    name: str, forecaster: Forecaster, examples: Examples, repeats: Sequence[Sequence[Split]], seed: int, run: Path
) -> list[Fitted]:
    """One member for each fold of each repeat, side by side."""
    splits = [split for repeat in repeats for split in repeat]
    keys = jax.random.split(jax.random.key(seed), len(splits))
    with Training(name, run / "metrics.jsonl") if is_first() else nullcontext(lambda row: None) as log:
        return forecaster.fit_many(examples, splits, keys, folder=run / "checkpoints" / name, log=log)


def _tested(
    examples: Examples, repeats: Sequence[Sequence[Split]], fitted: Mapping[str, list[Fitted]]
) -> list[Outcomes]:
    """Every forecast of a held-out subject whose truth was observed, target by target."""
    rows = np.flatnonzero(np.any([split.test for split in repeats[0]], axis=0))
    place = {row: i for i, row in enumerate(rows)}
    fold = np.zeros((len(repeats), len(rows)), int)
    told: dict[str, dict[str, Float[np.ndarray, "r n q p"]]] = {t.name: {} for t in examples.layout.targets}
    for name, members in fitted.items():
        waiting = iter(members)
        for r, repeat in enumerate(repeats):
            for k, split in enumerate(repeat):
                some = np.flatnonzero(split.test)
                where = [place[row] for row in some]
                fold[r, where] = k
                for target, numbers in answers(next(waiting), examples, some, examples.asked).items():
                    table = told[target].setdefault(name, np.zeros((len(repeats), len(rows), *numbers.shape[1:])))
                    table[r, where] = numbers
    return [_outcomes(examples, target, rows, fold, told[target.name]) for target in examples.layout.targets]


def _outcomes(
    examples: Examples, target, rows: np.ndarray, fold: np.ndarray, told: Mapping[str, np.ndarray]
) -> Outcomes:
    query, truth = jax.tree.map(np.asarray, (examples.asked.query, examples.asked.truth[target.name]))
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
        truth=truth.value[rows][i, q],
        forecasts={name: numbers[:, i, q] for name, numbers in told.items()},
    )


def _write_cost(fitted: Mapping[str, list[Fitted]], run: Path) -> None:
    costs = {name: asdict(members[0].cost) for name, members in fitted.items() if members[0].cost}
    write_whole(run / "cost.json", json.dumps(costs, indent=1))


def _write_history(examples: Examples, found: Sequence[Outcomes], run: Path) -> None:
    """What was observed of the targets of every tested subject, for the report's trajectories."""
    cohort = examples.cohort
    place = {subject: i for i, subject in enumerate(cohort.subjects)}
    with (run / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("subject", "visit", "time", "target", "value"))
        for one in found:
            column, levels = one.target.index, one.target.levels
            for subject in one.subjects:
                i = place[subject]
                for j in np.flatnonzero(cohort.observed[i, :, column]):
                    value = cohort.values[i, j, column]
                    rows.writerow(
                        (subject, j, cohort.times[i, j], one.target.name, levels[int(value)] if levels else value)
                    )


def _model(name: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The config of a model by its name in conf/model, with everything the command line says of the rest."""
    told = [
        o for o in HydraConfig.get().overrides.task if not o.lstrip("+~").startswith(("model", "settings", "repeats"))
    ]
    if name in FLOORS:  # they have nothing to set, and an experiment may set parts that they lack
        told = []
    config = compose("forecast", [*told, f"model={name}", *overrides])
    check(config)
    return config.model


def _name() -> str:
    """What the leaderboard calls the forecaster: its name in conf/model, or its parts where others were chosen."""
    choices = HydraConfig.get().runtime.choices
    model, parts = choices["model"], ("model/encoder", "model/head")
    usual = compose("forecast", [f"model={model}"], return_hydra_config=True).hydra.runtime.choices
    if model != "deep" and all(choices.get(part) == usual.get(part) for part in parts):
        return model
    encoder, head = (choices[part] for part in parts)
    return head if encoder == "tabular" else f"{encoder}_{head}"


def _objective(run: Path) -> float:
    """The mean over members of the best validation loss; NaN where there is none (a floor, split.validation=0)."""
    best: dict[tuple[str, int], float] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        key = (row["model"], row["member"])
        best[key] = float(np.fmin(best.get(key, np.nan), row["validation"]))
    by_model = {model: np.mean([v for (m, _), v in best.items() if m == model]) for model, _ in best}
    return float(min(by_model.values(), default=np.nan))


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment names another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "prognax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # the small programs of a start are many
