"""A run folder made by chance, as a small study leaves it."""

import json
import runpy
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from framework.digests import seal
from framework.evaluate import leaderboard, outcomes, subgroups
from framework.report import page

STUDY = runpy.run_path(str(Path(__file__).parents[1] / "evaluate" / "conftest.py"))

MANIFEST = {
    "experiment": "OASIS-2: cognition and atrophy",
    "command": "python -m experiments.forecast data=oasis2 model=cnn_gru seed=0",
    "created": "2026-03-04T09:30:00+00:00",
    "commit": "3f1c0de5b1a94c0b8b5e3fda0c4c9e7a1c2d3e4f",
    "versions": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "numpy": "2.3.1"},
    "python": "3.11.7",
    "device": {"platform": "cpu", "kind": "x86-64, 2 cores", "count": 1},
    "data": {
        "name": "oasis2",
        "store": "cohorts/oasis2",
        "fingerprint": "9b2f7c1e" * 8,
        "subjects": 40,
        "visits": 131,
        "scans": {"T1w": 131},
    },
    "targets": ["MMSE", "CDR", "nWBV"],
    "models": ["last_visit", "slope", "cnn_gru"],
    "test_subjects": 40,
}

COSTS = {
    "slope": {"seconds": 0.1, "compile_seconds": 0.0, "steps": 0, "members": 5, "scans_per_second": None},
    "cnn_gru": {
        "seconds": 312.0,
        "compile_seconds": 6.4,
        "steps": 400,
        "members": 25,
        "scans_per_second": 118.3,
        "visits_per_second": 118.3,
        "subjects_per_second": 36.0,
        "waiting": 0.021,
        "step_flops": 20837332992,
        "step_bytes": 1597050108,
        "uncounted": ["fft"],
        "flops_per_second": 4.4e10,
        "peak_share": 0.4,
        "intensity": 13.0,
        "ridge": 5.5,
        "bound": "compute",
        "peak_memory": 1234567890,
        "device": "x86-64, 2 cores",
    },
}

PARTICIPANTS = {
    "groups": [
        {"name": "all", "subjects": 40, "visits": 131, "visits_each": [3.0, 2.0, 4.0], "followed": [4.2, 2.0, 6.1], "longest": 8.5}
    ],
    "dates": ["2001-02-03", "2009-10-11"],
    "variables": [
        {
            "name": "sex", "description": "", "roles": ["input"], "units": "1", "levels": ["F", "M"],
            "groups": [{"missing": 0, "of": 40, "counts": [18, 22]}],
        },
        {
            "name": "MMSE", "description": "Mini-Mental State Examination", "roles": ["input", "target"],
            "units": "points", "levels": [], "groups": [{"missing": 3, "of": 131, "quarters": [27.0, 25.5, 29.0]}],
        },
    ],
}  # fmt: skip


def fill(run: Path, subjects: int = 40) -> Path:
    rng = np.random.default_rng(0)
    made = STUDY["outcomes"](subjects)
    outcomes.write(made, run)
    leaderboard.write(leaderboard.leaderboard(made, ["last_visit", "slope"], resamples=500), 500, run)
    sex = ["F" if i % 2 else "M" for i in range(subjects)]
    subgroups.write(subgroups.subgroups(made, {"sex": sex}, resamples=100), run)
    (run / "manifest.json").write_text(json.dumps(MANIFEST))
    (run / "config.yaml").write_text(
        "split:\n  _target_: framework.data.splits.split.KFold\n  folds: 5\n  validation: 0.15\n"
        "repeats: 5\nseed: 0\n"
        "fitted:\n  cnn_gru:\n    _target_: framework.nn.heads.gru.GRU\n    features: 32\n"
    )
    levels = made[1].levels
    history = [
        (subject, f"v{j}", time, target, levels[int(values[j])] if target == "CDR" else values[j])
        for subject, times, columns in STUDY["courses"](subjects, 0)
        for j, time in enumerate(times)
        for target, values in columns.items()
    ]
    pd.DataFrame(history, columns=["subject", "visit", "time", "target", "value"]).to_csv(
        run / "history.csv", index=False
    )
    ledger = [(subject, "", "subject", "used", "") for subject in made[0].subjects]
    ledger += [(subject, f"v{j}", "visit", "used", "") for subject in made[0].subjects for j in range(3)]
    ledger += [
        ("OAS2_0007", "v1", "T1w", "missing", "no such file"),
        ("OAS2_0012", "v2", "MMSE", "missing", "empty cell"),
    ]
    ledger += [
        ("OAS2_0099", "", "subject", "excluded", "one visit alone"),
        ("OAS2_0003", "v9", "visit", "excluded", "twice"),
    ]
    pd.DataFrame(ledger, columns=["subject", "visit", "item", "status", "reason"]).to_csv(
        run / "ledger.csv", index=False
    )
    lines = []
    for member in range(6):
        for step in range(0, 400, 10):
            decay = np.exp(-step / 90)
            losses = {
                "train": 0.3 + decay + 0.03 * rng.normal(),
                "validation": 0.42 + 0.9 * decay + 0.02 * rng.normal(),
            }
            lines.append({"model": "cnn_gru", "member": member, "step": step, **losses, "seconds": 0.2 * step})
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (run / "cost.json").write_text(json.dumps(COSTS))
    chosen = {"cnn_gru": [{"MMSE": {"penalty": 3.0, "folds": 5}}, {"MMSE": {"penalty": 10.0, "folds": 5}}] * 3}
    chosen["cnn_gru"][0] = {"MMSE": {"penalty": 10.0, "folds": 5}, "CDR": {}}
    (run / "chosen.json").write_text(json.dumps(chosen))
    (run / "participants.json").write_text(json.dumps(PARTICIPANTS))
    seal(run)
    return run


@pytest.fixture
def folder(study_folder, tmp_path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(study_folder, tmp_path / "run")


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory) -> Path:
    return fill(tmp_path_factory.mktemp("run"))


@dataclass(frozen=True)
class Built:
    """A run with its page: the folder, the page's text, and the files that drawing it added and changed."""

    folder: Path
    text: str
    added: set[str]
    changed: set[str]


@pytest.fixture(scope="session")
def built(study_folder, tmp_path_factory) -> Built:
    """The page of the run as it was left, drawn once for all tests; none may change its folder."""
    folder = shutil.copytree(study_folder, tmp_path_factory.mktemp("left") / "run")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert page.build(folder) == folder / "report.html"
    changed = {path.name for path in before if path.stat().st_mtime_ns != before[path] and path.is_file()}
    added = {path.name for path in folder.rglob("*") if path not in before}
    return Built(folder, (folder / "report.html").read_text(encoding="utf-8"), added, changed)


@pytest.fixture(scope="session")
def text(built) -> str:
    """The text of the page."""
    return built.text
