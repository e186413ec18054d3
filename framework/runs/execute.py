"""One run from top to bottom: fit, forecast, evaluate, report."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import jax
from omegaconf import DictConfig

from framework.config.model_configs import REFERENCES, ModelConfigs
from framework.config.quoting import join_command, quote_override
from framework.data.cohort.names import require_file_name
from framework.data.queries.examples import Examples
from framework.errors import UserError
from framework.evaluate import leaderboard
from framework.evaluate.terminal_table import as_text
from framework.runs import certificate, evaluation
from framework.runs.certificate import raise_on_leaks
from framework.runs.data_loading import copy_ledger, load_examples
from framework.runs.job import Job
from framework.runs.model_results import ModelResults
from framework.runs.run_value import RunValue
from framework.train.mesh import is_first


def forecast(config: DictConfig) -> RunValue:
    """Fit one forecaster and both reference forecasts on one split; return its best validation loss."""
    use_compilation_cache()
    return run_job(forecast_job(config, ModelConfigs(config.trust)))


def forecast_job(
    config: DictConfig, configs: ModelConfigs, load: Callable[[DictConfig], Examples] = load_examples
) -> Job:
    """Return the job of `experiments.forecast`; `load(config)` loads its data."""
    name = configs.studied_name()
    references = {reference: configs.compose_model(reference) for reference in REFERENCES if reference != name}
    return single_split_job(config, references | {name: config.model}, load)


def single_split_job(
    config: DictConfig, models: Mapping[str, DictConfig], load: Callable[[DictConfig], Examples]
) -> Job:
    """Return the job of these models on one split, the one under study last."""
    return Job.of(config, models, lambda splitter, cohort: [[splitter.one(cohort)]], save_models=True, load=load)


def compare(config: DictConfig) -> RunValue:
    """Fit several forecasters and both reference forecasts on the same folds; return the best mean validation loss."""
    use_compilation_cache()
    names, overrides = list(dict.fromkeys([*REFERENCES, *config.models])), config.model_overrides or {}
    unknown = sorted(set(overrides) - set(names))
    if unknown:
        raise UserError(
            f"model_overrides names {unknown[0]!r}, which is not in models={list(config.models)}; add or remove it"
        )
    for name in names:
        require_file_name(name, "a model")
    configs = ModelConfigs(config.trust)
    models = {name: configs.compose_model(name, overrides.get(name, ())) for name in names}
    repeats = range(config.repeats)
    plan = lambda splitter, cohort: [splitter.splits(cohort, repeat) for repeat in repeats]  # noqa: E731
    return run_job(Job.of(config, models, plan, save_models=False, repeats_per_model=_repeats_per_model(config, names)))


def _repeats_per_model(config: DictConfig, names: Sequence[str]) -> dict[str, int]:
    """Return the number of repeats of each model that has fewer. Raise UserError for an unknown model or number."""
    counts = dict(config.repeats_per_model or {})
    for name, count in counts.items():
        if name not in names:
            raise UserError(
                f"repeats_per_model names {name!r}, which is not in models={list(config.models)}; add or remove it"
            )
        if not 1 <= count <= config.repeats:
            raise UserError(f"repeats_per_model.{name} is {count}; expected 1 to repeats={config.repeats}")
    return counts


def run_job(job: Job, quiet: bool = False, **facts: object) -> RunValue:
    """Run a job unless it is finished, and print its results unless `quiet`; `facts` go into its manifest."""
    if not job.folder.finished:
        with job.open_folder(**facts) if is_first() else nullcontext():
            if not job.folder.finished:
                results = {name: job.fit_and_test(name) for name in job.forecasters}
                if is_first():  # the other hosts have done their share
                    finish(job, results)
    elif is_first():
        job.folder.check()
        job.folder.repair_status()
        job.track()  # tracking may have been requested only now
    if not is_first():
        return RunValue("nan")
    if not quiet:
        print(as_text(leaderboard.read(job.folder.path)[0]))
        print(report_location(job.folder.path))
    raise_on_leaks(job.folder.path, job.config.allow_leaks)
    return RunValue.of(job.objective, job.folder.path)


def finish(job: Job, results: Mapping[str, ModelResults]) -> None:
    """Evaluate, certify and report a job whose forecasters are tested; from now on its run is shown, not made."""
    run, examples = job.folder.path, job.examples
    by_target = evaluation.outcomes_by_target(examples, job.train_examples, job.repeats, results)
    evaluation.write_costs(results, run)
    evaluation.write_scores(by_target, examples, job.config.resamples, job.config.seed, run)
    evaluation.write_participants(examples, job.repeats, run)
    certificate.write(job.build_certificate(results), examples.subjects, job.repeats, run)
    copy_ledger(job.config.data.store, run, examples.left_out())
    job.folder.update_manifest(
        targets=[target.name for target in examples.layout.targets],
        models=list(results),
        test_subjects=len({subject for outcome in by_target for subject in outcome.subjects}),
        warnings={name: model.metadata["notes"] for name, model in results.items() if model.metadata["notes"]},
    )
    job.folder.seal()
    if job.config.report:
        from framework.report import page  # loaded here, so that figures do not delay the first step

        page.build(run)
    job.track()
    job.folder.finish()
    for temporary in ("checkpoints", "model_results"):
        shutil.rmtree(run / temporary, ignore_errors=True)


def report_location(run: Path) -> str:
    """Return the location of a run's report, or the command that draws it."""
    page = run / "report.html"
    if page.exists():
        return f"report: {page}"
    return f"report: python -m experiments.report {join_command([quote_override('run', str(run))])}"


def use_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, unless the environment names another."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "prognax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # a start compiles many small programs
