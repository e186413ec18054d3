"""Whether forecasts depend on what comes after their origin: where the future is changed, they must not change."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from framework.data.batches.batch import Batch, Loader, Rows
from framework.data.queries.examples import Examples
from framework.forecast.base import Fitted
from framework.forecast.predict import BATCH, numbers
from framework.types import Arr, Scans, Visits

ORIGINS = 3  # visits from which the future is changed
Change = Callable[[Visits, int], Visits]


def future_dependence(fitted: Fitted, examples: Examples, rows: Rows) -> list[str]:
    """Parts of the future that a forecaster depends on: "later_visits", "later_labels", "visit_count", "hindsight".

    Every change leaves everything up to the origin as it is; answers are compared bit by bit.
    """
    loader = Loader(replace(examples, layout=fitted.layout), cache_bytes=0)
    size = loader.size(min(BATCH, len(rows)), rows)  # as `answers` asks them, so that the program is there
    batch = loader.batch(next(loader.pack(rows, size)), size, examples.eval_queries)
    before, asks = predict_arrays(fitted, batch), [*_asks(batch)]

    def moved(change: Change) -> bool:
        for origin, here in asks:
            after = predict_arrays(fitted, replace(batch, visits=change(batch.visits, origin)))
            if any(not np.array_equal(after[t][here], before[t][here]) for t in before):
                return True
        return False

    *future, (hindsight, afterwards) = _changes(examples)
    found = [name for name, change in future if moved(change)] if moved(_all([c for _, c in future])) else []
    if {"later_visits", "later_labels"} & set(found):  # a reader of the last visit depends on there being one
        found = [name for name in found if name != "visit_count"]
    return [*found, hindsight] if moved(afterwards) else found


def predict_arrays(fitted: Fitted, batch: Batch) -> dict[str, np.ndarray]:
    """The numbers of each target's answer."""
    answers = fitted.predict(batch.visits, batch.query)
    return {name: np.asarray(numbers(answer)) for name, answer in answers.items()}


def _asks(batch: Batch) -> Iterator[tuple[int, np.ndarray]]:
    """The origins there are, with their queries: the first, the last, and some between."""
    query = batch.query
    real = np.asarray(query.valid) & (np.asarray(batch.weight) > 0)[:, None]
    origins = np.unique(np.asarray(query.origin)[real])
    for origin in origins[np.unique(np.linspace(0, len(origins) - 1, ORIGINS).astype(int))]:
        yield int(origin), real & (np.asarray(query.origin) == origin)


def _changes(examples: Examples) -> list[tuple[str, Change]]:
    schema, layout = examples.cohort.schema, examples.layout
    targets = np.isin(np.arange(len(schema.variables)), [target.index for target in layout.measured])
    late = np.array(["hindsight" in v.roles for v in schema.variables], bool)
    late_static = np.array(["hindsight" in v.roles for v in schema.static], bool)
    now = examples.task == "current_visit"  # then the answer stands at the origin itself

    def values(v: Visits, origin: int, columns: np.ndarray, scans: bool, since: int) -> Visits:
        cell = _from(v, origin + since)[..., None] & columns
        changed = np.where(cell, _others(v.values), v.values).astype(np.float32)
        mask = np.where(cell, ~np.asarray(v.observed) | (np.arange(changed.shape[-1]) % 2 == 0), v.observed)
        read = {name: _rescanned(one, origin) for name, one in v.scans.items()} if scans else v.scans
        return replace(v, values=changed, observed=mask, scans=read)

    def counted(v: Visits, origin: int) -> Visits:
        later, last = _from(v, origin + 1), np.max(v.times, axis=1, keepdims=True)
        on = last + 7 + np.arange(v.times.shape[1])  # forwards, as times run: from padding as well
        times = np.where(later, on, v.times).astype(np.float32)
        return replace(v, valid=np.where(later, ~np.asarray(v.valid), v.valid), times=times)

    def afterwards(v: Visits, origin: int) -> Visits:
        static = np.where(late_static, _others(v.static), v.static).astype(np.float32)
        return replace(values(v, -1, late, False, 0), static=static)

    return [
        ("later_visits", lambda v, origin: values(v, origin, ~targets & ~late, True, 1)),
        ("later_labels", lambda v, origin: values(v, origin, targets, False, 0 if now else 1)),
        ("visit_count", counted),
        ("hindsight", afterwards),
    ]


def _all(changes: Sequence[Change]) -> Change:
    def change(v: Visits, origin: int) -> Visits:
        for one in changes:
            v = one(v, origin)
        return v

    return change


def _from(v: Visits, visit: int) -> np.ndarray:
    return np.broadcast_to(np.arange(v.times.shape[1]) >= visit, v.times.shape)


def _others(values: Arr) -> np.ndarray:
    """Other numbers, which are levels where levels stood: 0 for what was more, 1 for 0."""
    return np.where(np.asarray(values) == 0, 1, 0)


def _rescanned(scans: Scans, origin: int) -> Scans:
    later = (np.asarray(scans.visit) > origin)[:, None, None, None, None]
    return replace(scans, voxels=np.where(later, np.flip(scans.voxels, 1) * 3 + 1, scans.voxels))
