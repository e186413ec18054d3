"""One run, top to bottom: fit, forecast, evaluate, report."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import jax
from omegaconf import DictConfig

from framework.config.model_configs import FLOORS, Recipes
from framework.config.quoting import override, pasted
from framework.data.cohort.names import require_file_name
from framework.data.queries.examples import Examples
from framework.errors import UserError
from framework.evaluate import leaderboard
from framework.evaluate.terminal_table import as_text
from framework.runs.certificate import uphold
from framework.runs.data_loading import examples_of
from framework.runs.job import Job
from framework.runs.run_value import Ran
from framework.train.mesh import is_first


def forecast(config: DictConfig) -> Ran:
    """Fit one forecaster and both floors on one split; return the forecaster's best validation loss."""
    use_compilation_cache()
    return run(forecast_job(config, Recipes(config.trust)))


def forecast_job(config: DictConfig, recipes: Recipes, examples: Callable[[DictConfig], Examples] = examples_of) -> Job:
    """The job of `experiments.forecast`; `examples(config)` opens its data."""
    name = recipes.name()
    models = {floor: recipes.model(floor) for floor in FLOORS if floor != name} | {name: config.model}
    return single(config, models, examples)


def single(config: DictConfig, models: Mapping[str, DictConfig], examples: Callable[[DictConfig], Examples]) -> Job:
    """The job of these models on one split, the one under study last."""
    return Job.of(config, models, lambda splitter, cohort: [[splitter.one(cohort)]], keep=True, opened=examples)


def compare(config: DictConfig) -> Ran:
    """Fit several forecasters, and both floors, on the same folds; return the best mean validation loss."""
    use_compilation_cache()
    names, settings = list(dict.fromkeys([*FLOORS, *config.models])), config.settings or {}
    unknown = sorted(set(settings) - set(names))
    if unknown:
        raise UserError(
            f"settings names {unknown[0]!r}, which is not in models={list(config.models)}; add or remove it"
        )
    for name in names:
        require_file_name(name, "a model")
    recipes = Recipes(config.trust)
    models = {name: recipes.model(name, settings.get(name, ())) for name in names}
    repeats = range(config.repeats)
    plan = lambda splitter, cohort: [splitter.splits(cohort, repeat) for repeat in repeats]  # noqa: E731
    return run(Job.of(config, models, plan, keep=False, counts=_counts(config, names)))


def _counts(config: DictConfig, names: Sequence[str]) -> dict[str, int]:
    """In how many repeats some models take part. Raises UserError where that cannot be."""
    counts = dict(config.fewer or {})
    for name, count in counts.items():
        if name not in names:
            raise UserError(f"fewer names {name!r}, which is not in models={list(config.models)}; add or remove it")
        if not 1 <= count <= config.repeats:
            raise UserError(f"fewer.{name} is {count}; expected 1 to repeats={config.repeats}")
    return counts


def run(job: Job, quiet: bool = False, **facts: object) -> Ran:
    """Do what is not done yet of a job, and show it unless that would be too much; `facts` are for its manifest."""
    if not job.folder.finished:
        with job.begun(**facts) if is_first() else nullcontext():
            if not job.folder.finished:
                tested = {name: job.tested(name) for name in job.forecasters}
                if is_first():  # the other hosts have done their share
                    job.finish(tested)
    elif is_first():
        job.folder.check()
        job.folder.settle()
        job.track()  # it may be asked for only now
    if not is_first():
        return Ran("nan")
    if not quiet:
        print(as_text(leaderboard.read(job.folder.path)[0]))
        print(told(job.folder.path))
    uphold(job.folder.path, job.config.accept)
    return Ran.of(job.objective, job.folder.path)


def told(run: Path) -> str:
    """Where a run's report is, or how to have it drawn."""
    page = run / "report.html"
    if page.exists():
        return f"report: {page}"
    return f"report: python -m experiments.report {pasted([override('run', str(run))])}"


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment names another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "prognax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # the small programs of a start are many
