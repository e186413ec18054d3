"""History features against a plain reading of their definition, and blind to whatever comes after the origin."""

import dataclasses

import jax
import numpy as np
import pytest

from framework.data.batches.batch import Loader
from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.forecast.tabular.history_features import feature_names, history_features
from framework.types import Layout, Query, Scans, Visits
from tests.cohorts import examples, table
from tests.contracts.forecaster_laws import another_future, loud

SERIES = {
    "a": [
        (0.0, {"score": 10.0, "stage": "mid", "type": "x"}),
        (1.0, {"score": 6.0, "stage": "low"}),
        (1.5, {"stage": "high", "type": "z"}),
        (4.0, {"score": 6.0, "type": "x"}),
        (5.0, {"score": 1.0, "stage": "low", "type": "y"}),
    ],
    "b": [(0.0, {}), (2.0, {"score": 3.0, "stage": "high"}), (3.0, {"score": 4.0, "stage": "high"})],
}
VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("stage", ("input",), levels=("low", "mid", "high"), ordered=True),
    Variable("type", ("input",), levels=("x", "y", "z")),
)


def batch_of(cohort: Examples):
    rows = range(len(cohort.subjects))
    loader = Loader(dataclasses.replace(cohort, layout=without_scans(cohort.layout)))
    return loader.batch(rows, loader.size(len(rows), rows), cohort.eval_queries)


def without_scans(shape: Layout) -> Layout:
    return dataclasses.replace(shape, modalities=(), grids=())


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[tuple[int, int, float], dict[str, float]]:
    """(subject, origin, years) -> the features that are known."""
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, SERIES)
    asked = Examples(cohort, layout(cohort.schema, ["score"]))
    batch, names = batch_of(asked), feature_names(asked.layout)
    x, observed = history_features(batch.visits, batch.query, asked.layout)
    return {
        (int(i), int(batch.query.origin[i, j]), float(batch.query.time[i, j])): {
            name: float(x[i, j, k]) for k, name in enumerate(names) if observed[i, j, k]
        }
        for i, j in np.argwhere(batch.query.valid)
    }


def test_a_history_by_hand(told):
    assert told[0, 3, 5.0] == pytest.approx(
        {
            "years ahead": 1,
            "years seen": 4,
            "score": 6,
            "score a year": 0,
            "score lowest": 6,
            "score highest": 10,
            "score since": 1,
            "score since lowest": 1,
            "score since highest": 5,
            "stage": 2,
            "stage since": 3.5,
            "stage milder": 1,
            "stage since milder": 4,
            "type is 0": 1,
            "type is 1": 0,
            "type is 2": 0,
            "type since": 1,
            "type milder": 1,
            "type since milder": 3.5,
        }
    )
    assert told[0, 1, 5.0]["score a year"] == pytest.approx(-4)
    assert told[0, 1, 5.0]["stage milder"] == 0


def test_what_was_never_observed_is_not_known(told):
    assert set(told[1, 0, 3.0]) == {"years ahead", "years seen"}
    assert "score a year" not in told[1, 1, 3.0]
    assert "stage since milder" not in told[1, 1, 3.0]


def plain(visits: Visits, query: Query, shape: Layout, i: int, j: int) -> list[float]:
    """One query's features from their definition, NaN where they are not known."""
    times, valid, upto = visits.times[i], visits.valid[i], range(int(query.origin[i, j]) + 1)
    now, origin = float(query.time[i, j]), float(times[query.origin[i, j]])
    row = [now - origin, origin]
    told = [c for c in shape.inputs if c.per_year is None]

    def seen(index: int) -> list[tuple[float, float]]:
        return [
            (float(times[t]), float(visits.values[i, t, index]))
            for t in upto
            if valid[t] and visits.observed[i, t, index]
        ]

    numbers: list[list[float]] = []
    for column in (c for c in told if not c.classes):
        series, nan = seen(column.index), float("nan")
        if not series:
            numbers.append([nan] * 7)
            continue
        when, value = series[-1]
        rate = (value - series[-2][1]) / (when - series[-2][0]) if len(series) > 1 else nan
        low, high = min(v for _, v in series), max(v for _, v in series)
        ago = [now - max(t for t, v in series if v == end) for end in (low, high)]
        numbers.append([value, rate, low, high, now - when, *ago])
    row += [column[k] for k in range(7) for column in numbers]
    for column in (c for c in told if c.classes):
        series = seen(column.index)
        flags = 1 if column.ordered or column.classes == 2 else column.classes
        if not series:
            row += [float("nan")] * (flags + 3)
            continue
        when, value = series[-1]
        earlier = [t for t, v in series if (v < value if column.ordered else v != value)]
        row += [value] if flags == 1 else [float(value == level) for level in range(column.classes)]
        row += [now - when, float(bool(earlier)), now - max(earlier) if earlier else float("nan")]
    row += [
        float(visits.static[i, c.index]) if visits.static_observed[i, c.index] else float("nan") for c in shape.static
    ]
    for place in range(len(shape.known)):
        row.append(float(query.known[i, j, place]) if query.future_observed[i, j, place] else float("nan"))
    return row


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


def test_every_history_from_the_definition(small):
    batch, shape = batch_of(small), without_scans(small.layout)
    x, observed = history_features(batch.visits, batch.query, shape)
    assert x.shape[-1] == len(feature_names(shape)) == len(set(feature_names(shape)))
    for i, j in np.argwhere(batch.query.valid):
        expected = np.array(plain(batch.visits, batch.query, shape, i, j))
        np.testing.assert_array_equal(observed[i, j], ~np.isnan(expected))
        np.testing.assert_allclose(x[i, j], np.nan_to_num(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("origin", range(3))
def test_blind_to_what_comes_after_the_origin(small, origin):
    batch, shape = batch_of(small), without_scans(small.layout)
    asks = (batch.query.origin == origin) & batch.query.valid
    assert asks.any()
    before = history_features(batch.visits, batch.query, shape)
    after = history_features(another_future(batch.visits, origin), batch.query, shape)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(np.asarray(one)[asks], np.asarray(other)[asks])


def test_deaf_to_what_is_masked(small):
    batch, shape = batch_of(small), without_scans(small.layout)
    noisy = loud(batch)
    for one, other in zip(*(history_features(b.visits, b.query, shape) for b in (batch, noisy)), strict=True):
        np.testing.assert_array_equal(np.asarray(one)[batch.query.valid], np.asarray(other)[batch.query.valid])


def test_compiled_or_not(small):
    batch, shape = batch_of(small), without_scans(small.layout)
    compiled = history_features(batch.visits, batch.query, shape)
    with jax.disable_jit():
        eager = history_features(batch.visits, batch.query, shape)
    for one, other in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_embeddings_of_the_last_scan_and_their_change(small):
    """Packed in any order, with noise in the slots that hold none."""
    batch = batch_of(small)
    shape = dataclasses.replace(small.layout, modalities=("t1",), grids=((1, 1, 1, 2),))
    visits = jax.tree.map(lambda a: a[:1], batch.visits)
    voxels = np.array([[5.0, 1.0], [9.0, 9.0], [2.0, 3.0]], np.float32).reshape(3, 1, 1, 1, 2)
    scans = Scans(voxels, np.zeros(3, int), np.array([1, 1, 0]), np.array([True, False, True]))
    one = dataclasses.replace(visits, scans={"t1": scans})
    origin = np.array([[0, 1]])
    query = Query(
        np.full((1, 2), 9.0, np.float32),
        origin,
        np.zeros((1, 2, 1), np.float32),
        np.zeros((1, 2, 1), bool),
        np.ones((1, 2), bool),
    )
    x, observed = history_features(one, query, shape)
    of = [k for k, name in enumerate(feature_names(shape)) if name.startswith("t1")]
    np.testing.assert_allclose(x[0][:, of], [[2, 3, 0, 0, 9], [5, 1, 3, -2, 9 - visits.times[0, 1]]], rtol=1e-6)
    np.testing.assert_array_equal(observed[0][:, of], [[True, True, False, False, True], [True] * 5])
