"""Every forecaster of conf/model obeys the laws, and the laws catch one that does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.align import align
from framework.data.split import Split
from framework.data.store import Cohort
from framework.forecast.answers import answers
from framework.forecast.base import Fitted
from framework.types import Classes
from tests.cohorts import examples
from tests.contracts.recipes import forecaster, models

KEY = jax.random.key(3)
LATER = ("score", "stage", "volume")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


def split(shift: int = 0) -> Split:
    order = (np.arange(12) + shift) % 12
    return Split(order < 7, (order >= 7) & (order < 9), order >= 9)


@pytest.fixture(scope="module", params=models())
def recipe(request):
    return forecaster(request.param)


@pytest.fixture(scope="module")
def fitted(recipe, cohort) -> Fitted:
    return recipe.fit(cohort, split(), KEY)


SPLITS = [split(0), split(4), split(8)]


@pytest.fixture(scope="module")
def together(recipe, cohort) -> list[Fitted]:
    return recipe.fit_many(cohort, SPLITS, jnp.stack([KEY, *jax.random.split(KEY)]))


@pytest.fixture(scope="module")
def spoilt(recipe, cohort) -> list[Fitted]:
    """The same with noise in place of the first split's test subjects, on whom the second trains."""
    assert (SPLITS[0].test & SPLITS[1].train).any()
    where = np.broadcast_to(SPLITS[0].test[:, None], cohort.cohort.times.shape)
    return recipe.fit_many(changed(cohort, where), SPLITS, jnp.stack([KEY, *jax.random.split(KEY)]))


def numbers(fitted: Fitted, cohort) -> dict[str, np.ndarray]:
    return answers(fitted, cohort, range(len(cohort.subjects)), cohort.asked)


def changed(cohort, where: np.ndarray, present: np.ndarray | None = None):
    """The cohort with noise in place of every value, mask and voxel of the visits `where`."""
    rng = np.random.default_rng(9)
    old: Cohort = cohort.cohort
    cell = where[..., None]
    values = np.where(cell, rng.integers(0, 3, old.values.shape), old.values)
    observed = np.where(cell, rng.random(old.observed.shape) > 0.5, old.observed)
    noisy = Noisy(old.path, old.schema, old.manifest, old.times, values, observed, old.static, old.static_observed)
    noisy.__dict__["where"] = where
    return dataclasses.replace(cohort, cohort=noisy)


class Noisy(Cohort):
    """A cohort whose scans at the visits `where` are other scans."""

    def voxels(self, modality, subject, visit):
        scan = super().voxels(modality, subject, visit)
        return np.flip(scan * 3 + 1, 0).copy() if self.where[subject, visit] else scan


def blind_to_the_future(fitted: Fitted, cohort) -> None:
    """Noise in everything after the origin leaves forecasts bit-equal."""
    before = numbers(fitted, cohort)
    for origin in range(3):
        where = np.arange(cohort.cohort.times.shape[1]) > origin
        after = numbers(fitted, changed_keeping_questions(cohort, np.broadcast_to(where, cohort.cohort.times.shape)))
        asks = (np.asarray(cohort.asked.query.origin) == origin) & cohort.asked.query.valid
        for name in before:
            np.testing.assert_array_equal(after[name][asks], before[name][asks])


def changed_keeping_questions(cohort, where):
    """Noise in the histories; the questions (and what is known ahead) stay those of the true cohort."""
    noisy = changed(cohort, where)
    noisy.__dict__["asked"] = cohort.asked
    return noisy


def test_blind_to_the_future(fitted, cohort):
    blind_to_the_future(fitted, cohort)


def test_a_forecaster_that_peeks_is_caught(cohort):
    honest = forecaster("last_visit").fit(cohort, split(), KEY)

    class Peeks(Fitted):
        layout = honest.layout

        def predict(self, history, query):
            last = np.full_like(query.origin, history.values.shape[1] - 1)
            return honest.predict(history, dataclasses.replace(query, origin=last, time=query.time + 99))

        def save(self, path): ...

    with pytest.raises(AssertionError):
        blind_to_the_future(Peeks(), cohort)


def test_test_subjects_leave_the_fit_bit_equal(together, spoilt, cohort):
    first, second = (numbers(lanes[0], cohort) for lanes in (together, spoilt))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_training_subjects_do_matter(together, spoilt, cohort):
    """The law above has teeth: the same noise moves the lane that trains on these subjects."""
    first, second = (numbers(lanes[1], cohort) for lanes in (together, spoilt))
    assert any(not np.array_equal(first[name], second[name]) for name in first)


def test_values_under_a_mask_never_matter(fitted, cohort):
    old = cohort.cohort
    values = np.where(old.observed, old.values, 7)
    static = np.where(old.static_observed, old.static, 1)
    loud = dataclasses.replace(cohort, cohort=dataclasses.replace(old, values=values, static=static))
    loud.__dict__["asked"] = cohort.asked
    first, second = numbers(fitted, cohort), numbers(fitted, loud)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_lane_of_fit_many_is_fit(fitted, together, cohort):
    alone, lane, other = (numbers(one, cohort) for one in (fitted, *together[:2]))
    for name in alone:
        np.testing.assert_allclose(lane[name], alone[name], rtol=1e-4, atol=1e-5)
    assert any(not np.allclose(other[name], alone[name]) for name in alone)


def test_batch_composition_never_matters(fitted, cohort):
    whole = numbers(fitted, cohort)
    some = answers(fitted, cohort, [3, 8], cohort.asked)
    for name in whole:
        np.testing.assert_allclose(some[name], whole[name][[3, 8]], rtol=1e-4, atol=1e-5)


def test_save_and_load_are_equal(recipe, fitted, cohort, tmp_path):
    fitted.save(tmp_path / "model")
    again = numbers(recipe.load(tmp_path / "model", cohort.layout), cohort)
    for name, expected in numbers(fitted, cohort).items():
        np.testing.assert_array_equal(again[name], expected)


def test_forecasts_are_forecasts(fitted, cohort):
    """Probabilities sum to one, quantiles ascend, all is finite."""
    size = np.arange(4)
    from framework.data.batch import Loader

    loader = Loader(dataclasses.replace(cohort, layout=fitted.layout))
    batch = loader.batch(list(size), loader.size(4, size), cohort.asked)
    for forecast in fitted.predict(batch.visits, batch.query).values():
        if isinstance(forecast, Classes):
            np.testing.assert_allclose(np.asarray(forecast.probs).sum(-1), 1, rtol=1e-5)
        else:
            assert (np.diff(np.asarray(forecast.quantiles), axis=-1) >= 0).all()


def test_a_new_patient_needs_no_targets(fitted, cohort):
    schema = cohort.cohort.schema
    bare = dataclasses.replace(schema, variables=tuple(v for v in schema.variables if v.name == "age"))
    values = cohort.cohort.values[..., 3:4]
    new = dataclasses.replace(cohort.cohort, schema=bare, values=values, observed=np.ones_like(values, bool))
    asked = dataclasses.replace(cohort, cohort=align(new, schema), ask="ahead")
    for told in answers(fitted, asked, range(12), cohort.asked).values():
        assert np.isfinite(told).all()
