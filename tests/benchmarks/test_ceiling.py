"""The share of the achievable improvement, on simulated courses without scans and with forecasts of known share."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from benchmarks import ceiling
from framework.data.cohort.schema import Subject, Visit
from framework.data.cohort.store import open_cohort, write
from framework.data.simulate import oracle
from framework.data.simulate.cohort import atrophy_schema
from framework.data.simulate.course import SEXES, Parameters, draw_person, follow, streams
from framework.errors import UserError
from framework.evaluate import outcomes
from framework.evaluate.outcomes import Outcomes
from framework.types import LEVELS, Number

P = Parameters()
COUNT = 8


@pytest.fixture(scope="module", autouse=True)
def few_samples():
    prior = oracle.prior
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "prior", lambda age, sex, icv, *_: prior(age, sex, icv, samples=1024))
        yield


def person(index: int) -> Subject:
    rng = streams(5, index)[0]
    one = draw_person(rng, P)
    visits = []
    for plan in follow(one, rng, P):
        values = {
            "age": one.age + plan.time,
            "ventricles": float(np.exp(one.log_ventricles(plan.time))) * plan.ventricles_error,
            "cognition": float(plan.cognition),
            "diagnosis": plan.diagnosis,
        }
        visits.append(Visit(plan.id, plan.time, values))
    return Subject(f"sim{index:04}", tuple(visits), {"sex": one.sex, "age_baseline": one.age, "icv": one.icv})


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("courses") / "store")
    write(path, replace(atrophy_schema(), modalities=()), (person(i) for i in range(COUNT)))
    return path


def queries(store: str, rows) -> Outcomes:
    """All pairs of visits of the given subjects, with reference forecasts: the last volume and a slope."""
    cohort = open_cohort(store)
    volume = cohort.values[..., cohort.column("ventricles")]
    pairs = [(k, row, i, j) for k, row in enumerate(rows) for i, j in combinations(range(cohort.valid[row].sum()), 2)]
    subject, row, origin, later = np.array(pairs).T
    last, years = volume[row, origin], cohort.times[row, later] - cohort.times[row, origin]
    medians = {"last_visit": last, "slope": last + 0.3 * years}
    return Outcomes(
        target=Number("ventricles", cohort.column("ventricles"), "mL"),
        subjects=tuple(cohort.subjects[row] for row in rows),
        subject=subject,
        fold=np.zeros((1, len(pairs)), int),
        origin=origin,
        origin_time=cohort.times[row, origin],
        time=cohort.times[row, later],
        truth=volume[row, later],
        forecasts={name: quantiles(median) for name, median in medians.items()},
    )


def quantiles(*points: np.ndarray) -> np.ndarray:
    """Repeats of forecasts (r, q, l + 1): quantiles, whose median is not the point forecast, and the point forecast."""
    return np.stack([np.c_[point[:, None] + np.arange(len(LEVELS)), point] for point in points])


def run(folder, store: str, rows=range(COUNT), model: str = "gru", forecast=None, **changes):
    """A finished run in which the model's forecasts are `forecast(queries)`, by default half-way from slope to oracle."""
    found = queries(store, rows)
    forecasts = quantiles(halfway(store, found)) if forecast is None else forecast(found)
    fold = np.zeros((len(forecasts), len(found.truth)), int)
    references = {name: np.repeat(values, len(forecasts), 0) for name, values in found.forecasts.items()}
    folder.mkdir()
    outcomes.write([replace(found, fold=fold, forecasts={**references, model: forecasts})], folder)
    manifest = {
        "finished": "2026-01-01",
        "models": ["last_visit", "slope", model],
        "device": {"kind": "cpu"},
        "command": f"forecast of {len(rows)}",
        "commit": None,
        "data": {"name": "atrophy", "store": store, "fingerprint": "f"},
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def halfway(store: str, found: Outcomes) -> np.ndarray:
    """Forecasts whose error is the mean of those of slope and oracle."""
    slope = found.points("slope")[0]
    best = ceiling.ceiling(open_cohort(store), found)
    return found.truth + (np.abs(slope - found.truth) + np.abs(best - found.truth)) / 2


def measured(tmp_path, *runs) -> dict:
    return ceiling.main(runs, tmp_path / "results" / "ceiling.json")


def test_half_the_gap_is_half_the_gap(tmp_path, store, capsys):
    result = measured(tmp_path, run(tmp_path / "a", store))
    assert result["ratio"] == 0.5
    assert result["interval"] == [0.5, 0.5]
    assert result["subjects"] == COUNT
    assert list(result["cases"]) == ["last_visit", "slope", "gru", "oracle"]
    assert result["cases"]["oracle"] < result["cases"]["slope"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == result
    assert json.loads((tmp_path / "results" / "ceiling.json").read_text()) == result


def test_the_ceiling_is_the_oracle_given_what_was_seen(store):
    found = queries(store, [3])
    cohort = open_cohort(store)
    medians = ceiling.ceiling(cohort, found)
    query = np.flatnonzero(found.origin == 1)[0]
    seen = cohort.values[3, :2]
    static = dict(zip((v.name for v in cohort.schema.static), cohort.static[3], strict=True))
    expected = oracle.forecast_ventricles(
        cohort.times[3, :2],
        *(seen[:, cohort.column(name)] for name in ("ventricles", "cognition", "diagnosis")),
        found.time[[query]],
        static["age_baseline"],
        SEXES[int(static["sex"])],
        static["icv"],
    )
    assert medians[query] == pytest.approx(expected.quantiles[0, LEVELS.index(0.5)])


def test_folds_pooled_are_the_cohort(tmp_path, store):
    whole = measured(tmp_path, run(tmp_path / "all", store))
    parts = measured(tmp_path, run(tmp_path / "a", store, range(3)), run(tmp_path / "b", store, range(3, COUNT)))
    assert set(parts) == set(whole)
    for key in ("ratio", "interval", "cases", "forecasts", "subjects", "fingerprint", "device"):
        assert parts[key] == whole[key]
    assert parts["command"] == f"forecast of 3; forecast of {COUNT - 3}"


def test_repeats_count_by_their_own_errors_not_by_that_of_their_mean(tmp_path, store):
    result = measured(tmp_path, run(tmp_path / "a", store, forecast=lambda q: quantiles(q.truth - 2, q.truth + 2)))
    assert result["cases"]["gru"] == 2


def test_what_cannot_be_pooled_or_measured_is_refused(tmp_path, store):
    one = run(tmp_path / "one", store, range(3))
    again = run(tmp_path / "again", store, range(2, 5))
    other = run(tmp_path / "other", store, range(5, 8), model="lstm")
    begun = run(tmp_path / "begun", store, finished=None)
    real = run(tmp_path / "real", store, data={"name": "oasis2"})
    references = run(tmp_path / "references", store, models=["last_visit", "slope"])
    for runs, line in [
        ((one, again), "tested in two of these runs: 1 subjects, such as sim0002; name runs of different folds"),
        ((one, one), "tested in two of these runs: 3 subjects"),
        ((one, other), "different models"),
        ((begun,), "no finished run"),
        ((tmp_path / "nowhere",), "no finished run"),
        ((real,), "is a run on oasis2"),
        ((references,), "no ventricles by a model beside the reference forecasts"),
    ]:
        with pytest.raises(UserError, match=line):
            measured(tmp_path, *runs)
    assert not (tmp_path / "results").exists()


def test_the_same_subject_of_another_cohort_is_another(tmp_path, store):
    first = run(tmp_path / "a", store, range(3))
    second = run(tmp_path / "b", store, range(3), data={"name": "atrophy", "store": store, "fingerprint": "g"})
    assert measured(tmp_path, first, second)["subjects"] == 6
