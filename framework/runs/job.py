"""One job of a study: what is fitted on which splits, and all that is written once it is."""

import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from hydra.utils import instantiate
from jaxtyping import Array, Float, Int, Key
from omegaconf import DictConfig, OmegaConf

from framework.config.model_configs import FLOORS
from framework.data.cohort.characteristics import characteristics
from framework.data.cohort.quoting import quoted
from framework.data.cohort.store import Cohort, exists
from framework.data.queries.examples import Examples
from framework.data.splits.split import ROLES, Split, Splitter
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes, subgroups
from framework.evaluate.outcomes import Outcomes
from framework.files import lock_folder, write_atomic
from framework.forecast.base import Fitted, Forecaster
from framework.forecast.predict import answers
from framework.runs import certificate
from framework.runs.data_loading import copy_ledger, examples_of, facts
from framework.runs.folder import RunFolder
from framework.runs.identity import digest_of
from framework.runs.model_results import Tested
from framework.runs.progress import Training
from framework.train.mesh import is_first
from framework.train.optimizer import TracedHyperparameters
from framework.types import Event, Interval, Target

Plan = Callable[[Splitter, Cohort], Sequence[Sequence[Split]]]  # the folds of each repeat


@dataclass(frozen=True)
class Job:
    """Forecasters to fit on the folds of each repeat, and the folder of the run; `keep` saves what was fitted.

    They are tested by `examples`, and learn from `known`: all of it, unless a temporal split keeps the future away.
    `counts` says of some in how many repeats they take part, the first ones; the others take part in all.
    What is fitted `by` another recipe than its own, one that differs in `TracedHyperparameters` alone, shares what was
    compiled. Where `said` is given it hears how far training is, which otherwise has a bar of its own.
    """

    config: DictConfig
    forecasters: Mapping[str, Forecaster]
    examples: Examples
    known: Examples
    repeats: Sequence[Sequence[Split]]
    what: Mapping
    folder: RunFolder
    keep: bool
    counts: Mapping[str, int]
    by: Mapping[str, Forecaster] = field(default_factory=dict)
    said: Callable[[str], None] | None = None

    @staticmethod
    def of(
        config: DictConfig,
        models: Mapping[str, DictConfig],
        plan: Plan,
        keep: bool,
        opened: Callable[[DictConfig], Examples] = examples_of,
        counts: Mapping[str, int] | None = None,
    ) -> "Job":
        """The job of a composed config; the cohort is brought in where there is none, nothing else is made yet."""
        _join(config)
        # first, so that a setting that cannot be is told before a cohort is brought in
        forecasters = {name: forecaster_of(config, model) for name, model in models.items()}
        instantiate(config.tracking).check()
        splitter = instantiate(config.split, _convert_="all")
        origins = instantiate(config.origins, _convert_="all")
        examples = opened(config)
        cohort = examples.cohort
        known, about = splitter.known(cohort), splitter.asks(cohort)
        study = replace(examples, origins=origins, about=about)
        what = OmegaConf.to_container(config, resolve=True)
        assert isinstance(what, dict)
        what["fitted"] = {name: OmegaConf.to_container(model, resolve=True) for name, model in models.items()}
        folder = RunFolder.of(what, cohort.fingerprint)
        learnt = examples if known is cohort else replace(examples, cohort=known)
        repeats = plan(splitter, cohort)
        for split in (split for repeat in repeats for split in repeat):
            learnt.learnable(split.train)
        return Job(config, forecasters, study, learnt, repeats, what, folder, keep, counts or {})

    @property
    def splits(self) -> list[Split]:
        """Those of all repeats, in order."""
        return [split for repeat in self.repeats for split in repeat]

    @property
    def keys(self) -> Key[Array, " m"]:
        """One for each split."""
        return jax.random.split(jax.random.key(self.config.seed), len(self.splits))

    @property
    def studied(self) -> str:
        """The forecaster under study: the last, beside the floors."""
        return list(self.forecasters)[-1]

    @property
    def dynamics(self) -> TracedHyperparameters | None:
        """The settings of the one under study, for each split; None where members cannot differ in any."""
        one = self.forecasters[self.studied].dynamic(self.known.layout)
        return one and jax.tree.map(lambda x: jnp.broadcast_to(x, (len(self.splits), *x.shape)), one)

    @contextmanager
    def begun(self, **facts: object) -> Iterator[None]:
        """The folder made, claimed for what happens inside, and told what becomes of it; `facts` for the manifest."""
        with lock_folder(self.folder.path):
            if self.folder.finished:  # by whoever had the folder before
                yield
                return
            self.start()
            if facts:
                self.folder.note(**facts)
            with self.folder.watched():
                yield

    def start(self) -> None:
        """Make the folder; only the first of several hosts does."""
        if is_first():
            self.folder.start(self.what, facts(self.config, self.examples.cohort))

    def took_part(self, name: str) -> Sequence[Sequence[Split]]:
        """The repeats in which a forecaster takes part."""
        return self.repeats[: self.counts.get(name, len(self.repeats))]

    def fit(self, name: str) -> list[Fitted]:
        """One member for each fold of each repeat that it takes part in, side by side."""
        path, splits = self.folder.path, [split for repeat in self.took_part(name) for split in repeat]
        shown = Training(name, path / "metrics.jsonl", self.said) if is_first() else nullcontext(lambda row: None)
        with shown as log:
            by = self.by.get(name, self.forecasters[name])
            dynamics = self.dynamics if name in self.by else None
            return by.fit_many(self.known, splits, self.keys[: len(splits)], dynamics, path / "checkpoints" / name, log)

    def tested(self, name: str) -> Tested:
        """A forecaster fitted and tested; one that an interrupted run had tested already is not fitted again."""
        kept = Tested.load(self._kept(name))
        if kept is None:
            return self.test(name, self.fit(name))
        if is_first() and self.keep and kept.facts["saved"] != digest_of(self.folder.path / "models" / name):
            raise UserError(
                f"{self.folder.path / 'models' / name} is not what was saved; delete {self._kept(name)}, and give the "
                "same command again"
            )
        return kept

    def test(self, name: str, members: Sequence[Fitted]) -> Tested:
        """Ask the members of a forecaster about the subjects each is tested by, and keep what they said."""
        if not is_first():
            return Tested({}, {})
        if self.keep:
            members[0].save(self.folder.path / "models" / name)
        facts = {
            "cost": None if members[0].cost is None else asdict(members[0].cost),
            "chosen": [member.chosen for member in members],
            "notes": _counted([member.notes for member in members]),
            "blind": certificate.blindness(self.examples, self.splits[0], name, members[0]),
            "saved": digest_of(self.folder.path / "models" / name) if self.keep else None,
        }
        made = Tested(_answers(self.examples, self.took_part(name), members), facts)
        made.save(self._kept(name))
        for note in facts["notes"]:
            print(f"warning: {name}: {note}", file=sys.stderr)
        return made

    def _kept(self, name: str) -> Path:
        return self.folder.path / "tested" / f"{name}.npz"

    def finish(self, tested: Mapping[str, Tested]) -> None:
        """Evaluate and report; from now on the run is shown, not made."""
        path, examples = self.folder.path, self.examples
        costs = {name: one.facts["cost"] for name, one in tested.items() if one.facts["cost"]}
        write_atomic(path / "cost.json", json.dumps(costs, indent=1))
        chosen = {name: one.facts["chosen"] for name, one in tested.items() if any(one.facts["chosen"])}
        write_atomic(path / "chosen.json", json.dumps(chosen, indent=1))
        found = _found(examples, self.known, self.repeats, tested)
        outcomes.write(found, path)
        rows = leaderboard.leaderboard(found, FLOORS, self.config.resamples, self.config.seed)
        leaderboard.write(rows, self.config.resamples, path)
        subgroups.write(_in_subgroups(examples, found, self.config), path)
        _write_history(examples, found, path)
        people = characteristics(examples.cohort, _groups(self.repeats))
        (path / "participants.json").write_text(json.dumps(people, indent=1, allow_nan=False))
        blind = [one.facts["blind"] for one in tested.values()]
        told = certificate.certificate(examples, self.known, self.repeats, self.forecasters, blind)
        certificate.write(told, examples.subjects, self.repeats, path)
        copy_ledger(self.config.data.store, path, examples.left_out())
        subjects = {subject for one in found for subject in one.subjects}
        targets = [target.name for target in examples.layout.targets]
        warnings = {name: one.facts["notes"] for name, one in tested.items() if one.facts["notes"]}
        self.folder.note(targets=targets, models=list(tested), test_subjects=len(subjects), warnings=warnings)
        self.folder.seal()
        if self.config.report:
            from framework.report import page  # loaded here, so that figures do not hold up the first step

            page.build(path)
        self.track()
        self.folder.finish()
        for done in ("checkpoints", "tested"):
            shutil.rmtree(path / done, ignore_errors=True)

    def track(self) -> None:
        """Copy it to where the configuration wants it told besides."""
        instantiate(self.config.tracking).copy(self.folder.path, self.what)

    @property
    def objective(self) -> float:
        """The mean over members of the best validation loss, of the best forecaster; NaN where nobody validates."""
        best: dict[tuple[str, int], float] = {}
        for line in (self.folder.path / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            key = (row["model"], row["member"])
            best[key] = float(np.fmin(best.get(key, np.nan), row["validation"]))
        by_model = {model: np.mean([v for (m, _), v in best.items() if m == model]) for model, _ in best}
        return float(min(by_model.values(), default=np.nan))


def _counted(notes: Sequence[Sequence[str]]) -> list[str]:
    """Each note once, with how many of the fits it is about."""
    often = Counter(note for each in notes for note in each)
    return [f"{note} ({count} of {len(notes)} fits)" for note, count in often.items()]


def forecaster_of(config: DictConfig, model: DictConfig) -> Forecaster:
    """The forecaster of a model's configuration, with its predictive intervals as `config.intervals` says."""
    made = instantiate(model, _convert_="all")
    return instantiate(config.intervals, _convert_="all")(made)


def _join(config: DictConfig) -> None:
    """Meet the other hosts. Raises UserError where each would bring the cohort in."""
    hosts = instantiate(config.hosts)
    if hosts.processes > 1 and not exists(config.data.store):
        raise UserError(
            f"no cohort at {config.data.store} yet, and {hosts.processes} processes to make it; "
            "first run experiments.ingest with the same data=..."
        )
    hosts.join()


def _held_out(repeats: Sequence[Sequence[Split]]) -> Int[np.ndarray, " n"]:
    return np.flatnonzero(np.any([split.test for split in repeats[0]], axis=0))


def _answers(
    examples: Examples, repeats: Sequence[Sequence[Split]], members: Sequence[Fitted]
) -> dict[str, Float[np.ndarray, "r n q p"]]:
    """What the members said of every held-out subject, target by target."""
    rows, waiting = _held_out(repeats), iter(members)
    told: dict[str, Float[np.ndarray, "r n q p"]] = {}
    for r, repeat in enumerate(repeats):
        for split in repeat:
            some = np.flatnonzero(split.test)
            for target, numbers in answers(next(waiting), examples, some, examples.asked).items():
                table = told.setdefault(target, np.zeros((len(repeats), len(rows), *numbers.shape[1:])))
                table[r, np.searchsorted(rows, some)] = numbers
    return told


def _found(
    examples: Examples, known: Examples, repeats: Sequence[Sequence[Split]], tested: Mapping[str, Tested]
) -> list[Outcomes]:
    """Every forecast of a held-out subject whose truth was observed, target by target."""
    rows = _held_out(repeats)
    fold = np.zeros((len(repeats), len(rows)), int)
    follow_up = np.zeros((len(repeats), len(rows)))
    for r, repeat in enumerate(repeats):
        for k, split in enumerate(repeat):
            here = np.searchsorted(rows, np.flatnonzero(split.test))
            fold[r, here], follow_up[r, here] = k, known.longest_horizon(split.train | split.validation)
    return [
        _outcomes(
            examples,
            target,
            rows,
            fold,
            follow_up,
            {name: one.answers[target.name] for name, one in tested.items() if target.name in one.answers},
        )
        for target in examples.layout.targets
    ]


def _outcomes(
    examples: Examples,
    target: Target,
    rows: np.ndarray,
    fold: np.ndarray,
    follow_up: np.ndarray,
    told: Mapping[str, np.ndarray],
) -> Outcomes:
    query, truth = jax.tree.map(np.asarray, (examples.asked.query, examples.asked.truth[target.name]))
    if isinstance(target, Event):  # subjects who were never at risk are none of its subjects
        asked = truth.observed[rows].any(1)
        rows, fold, follow_up = rows[asked], fold[:, asked], follow_up[:, asked]
        told = {name: numbers[:, asked] for name, numbers in told.items()}
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
        forecasts={name: numbers[:, i, q] for name, numbers in told.items()},
        follow_up=follow_up[:, i],
    )


def _in_subgroups(examples: Examples, found: Sequence[Outcomes], config: DictConfig) -> list[subgroups.Group]:
    """The headline metrics by who subjects are and by years ahead; all targets have the same subjects."""
    labels = subgroups.subgroup_labels(examples.cohort, found[0].subjects) if found else {}
    return subgroups.subgroups(found, labels, config.resamples, config.seed)


def _groups(repeats: Sequence[Sequence[Split]]) -> dict[str, np.ndarray]:
    """All subjects, and those of each role where a study has one split alone."""
    splits = [split for repeat in repeats for split in repeat]
    everybody = {"all": np.ones(len(splits[0].test), bool)}
    if len(splits) > 1:
        return everybody
    return everybody | {role: np.asarray(getattr(splits[0], role)) for role in ROLES}


def _write_history(examples: Examples, found: Sequence[Outcomes], run: Path) -> None:
    """What was observed of the targets of every tested subject, for the report's trajectories."""
    cohort = examples.cohort
    place = {subject: i for i, subject in enumerate(cohort.subjects)}
    with (run / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("subject", "visit", "time", "target", "value"))
        for one in found:
            if isinstance(one.target, Event):
                continue  # an event is no variable
            column, levels = one.target.index, one.levels
            for subject in one.subjects:
                i = place[subject]
                for j in np.flatnonzero(cohort.observed[i, :, column]):
                    value = cohort.values[i, j, column]
                    told = levels[int(value)] if levels else value
                    rows.writerow(map(quoted, (subject, j, cohort.times[i, j], one.target.name, told)))
