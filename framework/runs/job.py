"""One job of a study: its forecasters, fitted on its splits and tested on the subjects left out."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hydra.utils import instantiate
from jaxtyping import Array, Key
from omegaconf import DictConfig, OmegaConf

from framework.data.cohort.store import Cohort, exists
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split, Splitter
from framework.errors import UserError
from framework.files import lock_folder
from framework.forecast.base import Fitted, Forecaster
from framework.forecast.fit_request import FitRequest
from framework.runs import certificate
from framework.runs.data_loading import describe_data, load_examples
from framework.runs.evaluation import forecast_test_rows
from framework.runs.folder import RunFolder
from framework.runs.identity import digest_files
from framework.runs.model_results import ModelResults
from framework.runs.progress import TrainingProgress
from framework.train.mesh import is_first
from framework.train.optimizer import TracedHyperparameters

logger = logging.getLogger(__name__)

Plan = Callable[[Splitter, Cohort], Sequence[Sequence[Split]]]  # the folds of each repeat


@dataclass(frozen=True)
class Job:
    """Forecasters to fit on the folds of each repeat, and the folder of the run; `save_models` saves the fitted models.

    They are tested on `examples` and fitted on `train_examples`, the same unless a temporal split withholds the future.
    `repeats_per_model` limits some models to the first repeats; the others take part in all.
    `fit_with` holds forecasters that differ from a model's own in `TracedHyperparameters` alone, compiled already.
    `on_news(line)`, where given, receives the progress of training, which otherwise has a bar of its own.
    """

    config: DictConfig
    forecasters: Mapping[str, Forecaster]
    examples: Examples
    train_examples: Examples
    repeats: Sequence[Sequence[Split]]
    resolved_config: Mapping
    folder: RunFolder
    save_models: bool
    repeats_per_model: Mapping[str, int]
    fit_with: Mapping[str, Forecaster] = field(default_factory=dict)
    on_news: Callable[[str], None] | None = None

    @staticmethod
    def of(
        config: DictConfig,
        models: Mapping[str, DictConfig],
        plan: Plan,
        save_models: bool,
        load: Callable[[DictConfig], Examples] = load_examples,
        repeats_per_model: Mapping[str, int] | None = None,
    ) -> "Job":
        """Return the job of a composed config; a missing cohort is ingested, nothing else is written yet."""
        _join_hosts(config)
        # first, so that an invalid setting is reported before a cohort is ingested
        forecasters = {name: build_forecaster(config, model) for name, model in models.items()}
        instantiate(config.tracking).check()
        splitter = instantiate(config.split, _convert_="all")
        origins = instantiate(config.origins, _convert_="all")
        examples = load(config)
        cohort = examples.cohort
        train_cohort, about = splitter.known(cohort), splitter.asks(cohort)
        test_examples = replace(examples, origins=origins, about=about)
        resolved = OmegaConf.to_container(config, resolve=True)
        assert isinstance(resolved, dict)
        resolved["fitted"] = {name: OmegaConf.to_container(model, resolve=True) for name, model in models.items()}
        folder = RunFolder.of(resolved, cohort.fingerprint)
        train_examples = examples if train_cohort is cohort else replace(examples, cohort=train_cohort)
        repeats = plan(splitter, cohort)
        for split in (split for repeat in repeats for split in repeat):
            train_examples.check_trainable(split.train)
        return Job(
            config,
            forecasters,
            test_examples,
            train_examples,
            repeats,
            resolved,
            folder,
            save_models,
            repeats_per_model or {},
        )

    @property
    def splits(self) -> list[Split]:
        """Splits of all repeats, in order."""
        return [split for repeat in self.repeats for split in repeat]

    @property
    def keys(self) -> Key[Array, " m"]:
        """Random keys, one for each split."""
        return jax.random.split(jax.random.key(self.config.seed), len(self.splits))

    @property
    def studied(self) -> str:
        """The forecaster under study: the last one, after the reference forecasts."""
        return list(self.forecasters)[-1]

    @property
    def hyperparameters(self) -> TracedHyperparameters | None:
        """Traced hyperparameters of the forecaster under study, for each split; None where it has none."""
        hyperparameters = self.forecasters[self.studied].dynamic(self.train_examples.layout)
        return hyperparameters and jax.tree.map(
            lambda x: jnp.broadcast_to(x, (len(self.splits), *x.shape)), hyperparameters
        )

    @contextmanager
    def open_folder(self, **facts: object) -> Iterator[None]:
        """Make and lock the folder, and keep its status, while the block runs; `facts` go into the manifest."""
        with lock_folder(self.folder.path):
            if self.folder.finished:  # by the previous holder of the lock
                yield
                return
            self.start()
            logger.debug("run %s", self.folder.path)
            if facts:
                self.folder.update_manifest(**facts)
            with self.folder.track_status():
                yield

    def start(self) -> None:
        """Make the folder, on the first of several hosts only."""
        if is_first():
            self.folder.start(self.resolved_config, describe_data(self.config, self.examples.cohort))

    def repeats_of(self, name: str) -> Sequence[Sequence[Split]]:
        """Return the repeats in which a forecaster takes part."""
        return self.repeats[: self.repeats_per_model.get(name, len(self.repeats))]

    def fit(self, name: str) -> list[Fitted]:
        """Fit one member for each fold of each repeat that the forecaster takes part in, side by side."""
        path, splits = self.folder.path, [split for repeat in self.repeats_of(name) for split in repeat]
        curves, keys = path / "metrics.jsonl", self.keys[: len(splits)]
        with TrainingProgress(name, curves, self.on_news) if is_first() else nullcontext(lambda row: None) as log:
            forecaster = self.fit_with.get(name, self.forecasters[name])
            hyperparameters = self.hyperparameters if name in self.fit_with else None
            checkpoints = path / "checkpoints" / name
            return forecaster.fit_many(FitRequest(self.train_examples, splits, keys, hyperparameters, checkpoints, log))

    def fit_and_test(self, name: str) -> ModelResults:
        """Fit and test a forecaster, unless an interrupted run had tested it already."""
        results = ModelResults.load(self._results_file(name))
        if results is None:
            start = time.monotonic()
            members = self.fit(name)
            logger.debug("%s: fitted %d times in %.1f s", name, len(members), time.monotonic() - start)
            return self.test(name, members)
        model = self.folder.path / "models" / name
        if is_first() and self.save_models and results.metadata["saved"] != digest_files(model):
            raise UserError(
                f"{model} is not what was saved; delete {self._results_file(name)}, and give the same command again"
            )
        return results

    def test(self, name: str, members: Sequence[Fitted]) -> ModelResults:
        """Forecast the test subjects of each member, and save the results."""
        if not is_first():
            return ModelResults({}, {})
        if self.save_models:
            members[0].save(self.folder.path / "models" / name)
        metadata = {
            "cost": None if members[0].cost is None else asdict(members[0].cost),
            "chosen": [member.chosen for member in members],
            "notes": _count_notes([member.notes for member in members]),
            "future_check": certificate.check_future_dependence(self.examples, self.splits[0], name, members[0]),
            "saved": digest_files(self.folder.path / "models" / name) if self.save_models else None,
        }
        results = ModelResults(forecast_test_rows(self.examples, self.repeats_of(name), members), metadata)
        results.save(self._results_file(name))
        for note in metadata["notes"]:
            logger.warning("%s: %s", name, note)
        return results

    def _results_file(self, name: str) -> Path:
        return self.folder.path / "model_results" / f"{name}.npz"

    def build_certificate(self, results: Mapping[str, ModelResults]) -> dict:
        """Return the certificate of the run: which data each part of each forecaster used."""
        checks = [model.metadata["future_check"] for model in results.values()]
        return certificate.build_certificate(self.examples, self.train_examples, self.repeats, self.forecasters, checks)

    def track(self) -> None:
        """Copy the results to the tracker of the configuration."""
        instantiate(self.config.tracking).copy(self.folder.path, self.resolved_config)

    @property
    def objective(self) -> float:
        """The mean over members of the best validation loss, of the best forecaster; NaN without validation."""
        best: dict[tuple[str, int], float] = {}
        for line in (self.folder.path / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            key = (row["model"], row["member"])
            best[key] = float(np.fmin(best.get(key, np.nan), row["validation"]))
        by_model = {model: np.mean([v for (m, _), v in best.items() if m == model]) for model, _ in best}
        return float(min(by_model.values(), default=np.nan))


def _count_notes(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return each note once, with the number of fits that it concerns."""
    counts = Counter(note for notes_of_fit in notes for note in notes_of_fit)
    return [f"{note} ({count} of {len(notes)} fits)" for note, count in counts.items()]


def build_forecaster(config: DictConfig, model: DictConfig) -> Forecaster:
    """Build the forecaster of a model's configuration, with the predictive intervals of `config.intervals`."""
    forecaster = instantiate(model, _convert_="all")
    return instantiate(config.intervals, _convert_="all")(forecaster)


def _join_hosts(config: DictConfig) -> None:
    """Join the other hosts. Raise UserError where each of them would ingest the cohort."""
    hosts = instantiate(config.hosts)
    if hosts.num_processes > 1 and not exists(config.data.store):
        raise UserError(
            f"no cohort at {config.data.store} yet, and {hosts.num_processes} processes would ingest it; "
            "first run experiments.ingest with the same data=..."
        )
    hosts.join()
