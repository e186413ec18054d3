"""The exact forecast is made for the queries of the runs; models of several runs are pooled."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import long_series
from framework.data.cohort.store import open_cohort
from framework.data.ingest import ingest
from framework.data.ingest.rhythm import Rhythm
from framework.errors import UserError
from framework.evaluate import outcomes
from framework.evaluate.outcomes import Outcomes
from framework.types import LEVELS, Number

NAMES = ("last_visit", "minimal_rnn", "ridge", "gru_d", "ssm")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("cohort") / "rhythm")
    ingest(Rhythm(4, 0), path)
    return path


@pytest.fixture(scope="module")
def queried(store) -> Outcomes:
    """Queries of the next visit's activity; the error of a model falls with its place in NAMES."""
    cohort = open_cohort(store)
    column = cohort.column("activity")
    subject, later = np.nonzero(cohort.observed[..., column])
    subject, later = subject[later > 0], later[later > 0]
    truth = cohort.values[subject, later, column]
    spread = np.arange(len(LEVELS)) - LEVELS.index(0.5)
    forecasts = {name: (truth + 5 - place)[None, :, None] + spread for place, name in enumerate(NAMES)}
    fold = np.zeros((1, len(truth)), int)
    times = cohort.times[subject, later - 1], cohort.times[subject, later]
    target = Number("activity", column, "points")
    return Outcomes(target, cohort.subjects, subject, fold, later - 1, *times, truth, forecasts)


def run(folder, store: str, found: Outcomes, name: str = "rhythm"):
    folder.mkdir()
    outcomes.write([found], folder)
    data = {"name": name, "store": store, "fingerprint": "f"}
    manifest = {"finished": "2026-01-01", "device": {"kind": "cpu"}, "commit": None, "command": "", "data": data}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def subset(found: Outcomes, *names: str) -> Outcomes:
    return replace(found, forecasts={name: found.forecasts[name] for name in names})


def test_models_of_several_runs_are_compared_with_the_exact_forecast(tmp_path, store, queried):
    runs = [
        run(tmp_path / "a", store, subset(queried, *NAMES[:2])),
        run(tmp_path / "b", store, subset(queried, *NAMES[2:])),
    ]
    result = long_series.main(runs, tmp_path / "results")
    assert list(result["cases"]) == [*NAMES, "exact"]
    assert [result["cases"][name]["mae"] for name in NAMES] == pytest.approx([5, 4, 3, 2, 1], abs=1e-4)
    assert 0.3 < result["cases"]["exact"]["mae"] < 0.7
    assert result["cases"]["gru_d"]["mae_minus"] == {"minimal_rnn": [-2, -2, -2], "ridge": [-1, -1, -1]}
    assert result["cases"]["ssm"]["mae_by_visits_seen"]["6-10"] == pytest.approx([1, 1, 1], abs=1e-4)
    exact = result["cases"]["exact"]["mae"]
    assert result["ratio"] == pytest.approx((2 - exact) / (3 - exact), abs=1e-3)
    drawing = (tmp_path / "results" / "long_series.svg").read_text()
    assert drawing.startswith("<svg")
    assert "--model-5:" in drawing
    assert "gru_d" in drawing
    assert json.loads((tmp_path / "results" / "long_series.json").read_text()) == result


def test_runs_with_other_queries_are_refused(tmp_path, store, queried):
    one = run(tmp_path / "a", store, queried)
    moved = replace(queried, truth=queried.truth + 1)
    for place, other in enumerate((run(tmp_path / "b", store, moved), run(tmp_path / "c", store, queried, "atrophy"))):
        with pytest.raises(UserError, match=f"{'bc'[place]} has other queries than"):
            long_series.pool([one, other])
