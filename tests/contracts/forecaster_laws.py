"""What every forecaster must obey, as functions, so that broken forecasters can be put to the same question."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from framework.data.batches.batch import Batch, Loader
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.forecast.base import Fitted, Forecaster
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.forecast.predict import numbers as told_of
from framework.types import Query, Scans, Visits

KEYS = jax.random.split(jax.random.key(3), 3)


def split(shift: int) -> Split:
    order = (np.arange(12) + shift) % 12
    return Split(order < 7, (order >= 7) & (order < 9), order >= 9)


SPLITS = [split(0), split(4), split(8)]


def numbers(fitted: Fitted, examples: Examples) -> dict[str, np.ndarray]:
    """What a forecaster tells of every subject."""
    return answers(fitted, examples, range(len(examples.subjects)), examples.eval_queries)


def asked(fitted: Fitted, examples: Examples, rows=range(12)) -> Batch:
    """The same questions as one batch of what the forecaster reads."""
    loader = Loader(dataclasses.replace(examples, layout=fitted.layout))
    return loader.batch(rows, loader.size(len(rows), rows), examples.eval_queries)


def told(fitted: Fitted, batch: Batch) -> dict[str, np.ndarray]:
    forecasts = fitted.predict(batch.visits, batch.query).items()
    return {name: np.asarray(told_of(forecast)) for name, forecast in forecasts}


def few(fitted: Fitted, examples: Examples) -> tuple[list[int], Batch]:
    """Two subjects by themselves, in another order, with two visits of padding behind their own."""
    rows = [8, 3]
    batch = asked(fitted, examples, rows)
    v = batch.visits
    series = {name: getattr(v, name) for name in ("times", "valid", "values", "observed")}
    longer = {name: np.concatenate([a, np.zeros_like(a[:, :2])], 1) for name, a in series.items()}
    return rows, dataclasses.replace(batch, visits=dataclasses.replace(v, **longer))


def blind_to_the_future(fitted: Fitted, examples: Examples) -> None:
    """Other values, masks, times, visits and scans after the origin leave forecasts bit-equal."""
    batch = asked(fitted, examples)
    before = told(fitted, batch)
    for origin in range(3):
        after = told(fitted, dataclasses.replace(batch, visits=another_future(batch.visits, origin)))
        asks = (batch.query.origin == origin) & batch.query.valid
        assert asks.any()
        for name in before:
            np.testing.assert_array_equal(after[name][asks], before[name][asks])


def another_future(v: Visits, origin: int) -> Visits:
    rng = np.random.default_rng(9)
    later = np.broadcast_to(np.arange(v.times.shape[1]) > origin, v.times.shape)
    cell = later[..., None]

    def rescanned(scans: Scans) -> Scans:
        new = (scans.visit > origin)[:, None, None, None, None]
        return dataclasses.replace(scans, voxels=np.where(new, np.flip(scans.voxels, 1) * 3 + 1, scans.voxels))

    return dataclasses.replace(
        v,
        times=np.where(later, v.times + 7, v.times).astype(np.float32),
        valid=np.where(later, ~v.valid, v.valid),
        values=np.where(cell, rng.integers(0, 3, v.values.shape), v.values).astype(np.float32),
        observed=np.where(cell, rng.random(v.observed.shape) > 0.5, v.observed),
        scans={name: rescanned(scans) for name, scans in v.scans.items()},
    )


def deaf_to_what_is_masked(fitted: Fitted, examples: Examples) -> None:
    """Whatever stands under a mask, in padding, or in a row that weighs nothing leaves forecasts bit-equal."""
    batch = asked(fitted, examples)
    some = batch.query.future_observed & (np.random.default_rng(2).random(batch.query.known.shape) > 0.3)
    query = dataclasses.replace(batch.query, future_observed=some)
    light = dataclasses.replace(batch, query=query, weight=(np.arange(12) % 4 > 0).astype(np.float32))
    noisy = loud(light)
    counts = batch.query.valid & (light.weight > 0)[:, None]
    before, after = told(fitted, light), told(fitted, noisy)
    for name in before:
        np.testing.assert_array_equal(after[name][counts], before[name][counts])


def loud(batch: Batch) -> Batch:
    """Noise wherever nothing is to be read; a row of weight 0 holds nothing else, and says that all of it is real.

    Times still run forwards, and a query keeps its origin, as in the padding that a loader makes.
    """
    rng = np.random.default_rng(5)
    empty = batch.weight == 0

    def noise(a: np.ndarray, mask: np.ndarray, low: float = 0, high: float = 3) -> np.ndarray:
        told = _spread(mask, a) & ~_spread(empty, a)
        return np.where(told, a, rng.uniform(low, high, a.shape)).astype(a.dtype)

    def real(mask: np.ndarray) -> np.ndarray:
        return mask | _spread(empty, mask)

    v, q = batch.visits, batch.query
    visits = Visits(
        times=np.sort(noise(v.times, v.valid, 20, 40)),
        valid=real(v.valid),
        scans={name: _loud_scans(scans, v.times.shape, rng) for name, scans in v.scans.items()},
        values=noise(v.values, v.observed & v.valid[..., None]),
        observed=np.where(real(v.valid)[..., None], real(v.observed), rng.random(v.observed.shape) > 0.5),
        static=noise(v.static, v.static_observed),
        static_observed=real(v.static_observed),
    )
    planned = q.future_observed & q.valid[..., None]
    there = np.where(real(q.valid)[..., None], real(q.future_observed), rng.random(planned.shape) > 0.5)
    query = Query(noise(q.time, q.valid, 40, 80), q.origin, noise(q.known, planned), there, real(q.valid))
    truth = {
        name: type(t)(**{part: noise(a, t.observed) for part, a in vars(t).items()} | {"observed": real(t.observed)})
        for name, t in batch.truth.items()
    }
    return dataclasses.replace(batch, visits=visits, query=query, truth=truth)


def _spread(mask: np.ndarray, over: np.ndarray) -> np.ndarray:
    return mask.reshape(*mask.shape, *[1] * (over.ndim - mask.ndim))


def _loud_scans(scans: Scans, shape: tuple[int, ...], rng: np.random.Generator) -> Scans:
    n, valid = len(scans.valid), scans.valid
    voxels = np.where(_spread(valid, scans.voxels), scans.voxels, rng.normal(0, 9, scans.voxels.shape))
    row, visit = (
        np.where(valid, at, rng.integers(0, size, n)) for at, size in zip((scans.row, scans.visit), shape, strict=True)
    )
    return Scans(voxels.astype(np.float32), row, visit, valid)


def the_same_in_any_company(fitted: Fitted, examples: Examples) -> None:
    """Fewer subjects, in another order, behind longer padding: nothing changes beyond rounding."""
    whole, (rows, batch) = told(fitted, asked(fitted, examples)), few(fitted, examples)
    for name, answer in told(fitted, batch).items():
        valid = batch.query.valid
        np.testing.assert_allclose(answer[valid], whole[name][rows][valid], rtol=1e-4, atol=1e-5)


def the_same_compiled(fitted: Fitted, examples: Examples) -> None:
    _, batch = few(fitted, examples)
    with jax.disable_jit():
        eager = told(fitted, batch)
    for name, answer in told(fitted, batch).items():
        np.testing.assert_allclose(answer, eager[name], rtol=1e-4, atol=1e-5)


def fitted_together(recipe: Forecaster, examples: Examples) -> list[Fitted]:
    return recipe.fit_many(FitRequest(examples, SPLITS, KEYS))


def fitted_on_noise(recipe: Forecaster, examples: Examples) -> list[Fitted]:
    """The same with noise in the first split's test subjects, on whom the second trains, and under every mask."""
    tested = SPLITS[0].test
    assert (tested & SPLITS[1].train).any()
    batch = Loader.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "batch", lambda *args: loud(batch(*args)))
        return recipe.fit_many(FitRequest(_other_subjects(examples, tested), SPLITS, KEYS))


def _other_subjects(examples: Examples, where: np.ndarray) -> Examples:
    """The cohort with noise in place of every value, mask and voxel of some subjects."""
    rng = np.random.default_rng(9)
    old: Cohort = examples.cohort
    cell = where[:, None, None]
    values = np.where(cell, rng.integers(0, 3, old.values.shape), old.values)
    observed = np.where(cell, rng.random(old.observed.shape) > 0.5, old.observed)
    noisy = _Rescanned(old.path, old.schema, old.manifest, old.times, values, observed, old.static, old.static_observed)
    noisy.__dict__["where"] = where
    return dataclasses.replace(examples, cohort=noisy)


class _Rescanned(Cohort):
    """A cohort in which the scans of the subjects `where` are other scans."""

    def voxels(self, modality, subject, visit):
        scan = super().voxels(modality, subject, visit)
        return np.flip(scan * 3 + 1, 0).copy() if self.where[subject] else scan


def fitted_on_its_own_subjects(together: list[Fitted], on_noise: list[Fitted], examples: Examples) -> None:
    """Test subjects, padding and rows that weigh nothing leave the fit bit-equal; training subjects do not."""
    before, after = ([numbers(one, examples) for one in lanes[:2]] for lanes in (together, on_noise))
    for name in before[0]:
        np.testing.assert_array_equal(before[0][name], after[0][name])
    assert any(not np.array_equal(before[1][name], after[1][name]) for name in before[1])


def a_lane_is_a_fit(together: list[Fitted], second: Fitted, examples: Examples) -> None:
    """A member fitted beside others is the member fitted alone, on its own subjects with its own key."""
    other, lane, alone = (numbers(one, examples) for one in (*together[:2], second))
    for name in alone:
        np.testing.assert_allclose(lane[name], alone[name], rtol=1e-4, atol=1e-5)
    assert any(not np.allclose(other[name], alone[name]) for name in alone)


def saved_and_loaded_it_is_the_same(recipe: Forecaster, fitted: Fitted, examples: Examples, folder: Path) -> None:
    fitted.save(folder / "model")
    again = numbers(recipe.load(folder / "model", examples.layout), examples)
    for name, expected in numbers(fitted, examples).items():
        np.testing.assert_array_equal(again[name], expected)


LAWS = (blind_to_the_future, deaf_to_what_is_masked, the_same_in_any_company, the_same_compiled)
