"""Every forecaster of conf/model obeys the laws, and each law is broken by a forecaster made to break it."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from framework.data.batches.batch import Loader
from framework.data.cohort.schema_alignment import align
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.forecast.base import Fitted
from framework.forecast.deep.forecaster import Deep
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.history import asked_at_origin
from framework.types import Classes, SurvivalForecast
from tests.cohorts import examples
from tests.contracts import forecaster_laws as laws
from tests.contracts.forecaster_laws import KEYS, SPLITS
from tests.contracts.recipes import forecaster, models
from tests.memory import release_programs


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c", targets=("score", "stage", "volume", "rise"))


# made of others that are tried here, or of the same estimators with other settings: by default of one target alone, a
# network of its smallest head; of all targets in make trials
BRIEF = dict.fromkeys(
    ("bagging", "calibrated", "crossfit", "extra_trees", "mixed_effects", "quantile", "stacking", "voting"), "score"
) | {"cox": "rise"}
TRIED = {name: (name, name in BRIEF) for name in models()}
AT_LENGTH = {f"{name} at length": (name, False) for name in BRIEF}


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(one, id=name) for name, one in TRIED.items()),
        *(pytest.param(one, id=name, marks=pytest.mark.long) for name, one in AT_LENGTH.items()),
    ],
)
def which(request) -> Iterator[tuple[str, bool]]:
    """The name of a model, and whether it is tried briefly; models share few programs."""
    yield request.param
    release_programs()


@pytest.fixture(scope="module")
def recipe(which):
    name, brief = which
    return forecaster(name, *(("model/head=mean_pool",) if brief and name == "crossfit" else ()))


@pytest.fixture(scope="module")
def study(recipe, which, cohort):
    """What a recipe is tried on: everything, or, briefly and where its network reads scans, a part of it.

    A network's program holds an encoder for each modality, and in forecasts for each target; without scans the same
    code is tried on three targets, and the network on two modalities has tests of its own.
    """
    schema, (name, brief) = cohort.cohort.schema, which
    if brief:
        return dataclasses.replace(cohort, layout=layout(schema, [BRIEF[name]], ["t1", "flair"], cohort.events))
    if not isinstance(recipe, Deep) or recipe.encoder is None:
        return cohort
    return dataclasses.replace(cohort, layout=layout(schema, ["score"], ["t1"]))


@pytest.fixture(scope="module")
def fitted(recipe, study) -> Fitted:
    return recipe.fit(study, SPLITS[1], KEYS[1])


@pytest.fixture(scope="module")
def together(recipe, study) -> list[Fitted]:
    return laws.fitted_together(recipe, study)


def excused(name: str) -> tuple[str, ...]:
    """Laws that a model is not held to here: eagerly a network takes long, and its encoders, heads and itself are held
    to this one by themselves.
    """
    return ("the_same_compiled",) if isinstance(forecaster(name), Deep) else ()


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
def test_law(which, fitted, study, law):
    if law.__name__ in excused(which[0]):
        pytest.skip(f"not claimed: see `excused` ({law.__name__})")
    law(fitted, study)


def test_fitted_on_its_own_subjects(recipe, together, study):
    laws.fitted_on_its_own_subjects(together, laws.fitted_on_noise(recipe, study), study)


def test_a_lane_of_fit_many_is_fit(fitted, together, study):
    laws.a_lane_is_a_fit(together, fitted, study)


def test_saved_and_loaded_it_is_the_same(recipe, fitted, study, tmp_path):
    laws.saved_and_loaded_it_is_the_same(recipe, fitted, study, tmp_path)


def test_forecasts_are_forecasts(fitted, study):
    """Probabilities sum to one, quantiles ascend, survival falls from 1, all is finite."""
    batch = laws.asked(fitted, study)
    for forecast in fitted.predict(batch.visits, batch.query).values():
        if isinstance(forecast, Classes):
            np.testing.assert_allclose(np.asarray(forecast.probs).sum(-1), 1, rtol=1e-5)
        elif isinstance(forecast, SurvivalForecast):
            falls(fitted, batch)
        else:
            assert np.isfinite(forecast.quantiles).all()
            assert (np.diff(np.asarray(forecast.quantiles), axis=-1) >= 0).all()


def falls(fitted, batch):
    """Survival is 1 at the origin and falls with the time that is asked about, on and on."""
    start = asked_at_origin(batch.query, batch.visits.times, fitted.layout.known)
    years = [dataclasses.replace(start, time=start.time + year) for year in (0, 0.5, 1, 2, 9)]
    told = np.stack([fitted.predict(batch.visits, query)["rise"].survival for query in years])[:, batch.query.valid]
    np.testing.assert_array_equal(told[0], 1)
    assert (np.diff(told, axis=0) <= 1e-6).all()
    assert (told >= 0).all()


def test_a_new_patient_needs_no_targets(fitted, study):
    schema = study.cohort.schema
    bare = dataclasses.replace(schema, variables=tuple(v for v in schema.variables if v.name == "age"))
    values = study.cohort.values[..., 3:4]
    new = dataclasses.replace(study.cohort, schema=bare, values=values, observed=np.ones_like(values, bool))
    ahead = dataclasses.replace(study, cohort=align(new, schema), task="unlabelled")
    for told in answers(fitted, ahead, range(12), study.eval_queries).values():
        assert np.isfinite(told).all()


@dataclass(frozen=True)
class Spoilt(Fitted):
    """A lawful forecaster that breaks one law in the way `spoil(predict, history, query)` says."""

    honest: Fitted
    spoil: Callable

    @property
    def layout(self):
        return self.honest.layout

    def predict(self, history, query):
        return self.spoil(self.honest.predict, history, query)

    def save(self, path): ...


with_ = dataclasses.replace


def peeks(predict, history, query):
    last = np.full_like(query.origin, history.values.shape[1] - 1)
    return predict(history, with_(query, origin=last, time=query.time + 99))


def counts_visits(predict, history, query):
    return predict(history, with_(query, time=query.time + np.asarray(history.valid).sum(1, keepdims=True)))


def reads_under_the_mask(predict, history, query):
    return predict(with_(history, observed=np.ones_like(history.observed)), query)


def compares_patients(predict, history, query):
    return predict(history, with_(query, time=query.time - query.time.mean(0)))


def counts_padding(predict, history, query):
    return predict(history, with_(query, time=query.time + history.times.shape[1]))


def differs_when_compiled(predict, history, query):
    late = jax.jit(lambda time: time + 9.0 * isinstance(time, jax.core.Tracer))(query.time)
    return predict(history, with_(query, time=np.asarray(late)))


@pytest.mark.parametrize(
    ("law", "spoil"),
    [
        (laws.blind_to_the_future, peeks),
        (laws.blind_to_the_future, counts_visits),
        (laws.deaf_to_what_is_masked, reads_under_the_mask),
        (laws.deaf_to_what_is_masked, compares_patients),  # also those who weigh nothing
        (laws.the_same_in_any_company, compares_patients),
        (laws.the_same_in_any_company, counts_padding),
        (laws.the_same_compiled, differs_when_compiled),
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_forecaster_is_caught(cohort, law, spoil):
    honest = forecaster("slope").fit(cohort, SPLITS[1], KEYS[1])
    law(honest, cohort)
    with pytest.raises(AssertionError):
        law(Spoilt(honest, spoil), cohort)


class FitsOnTheTest(LastVisit):
    def fit_many(self, request):
        swapped = [Split(split.test, split.validation, split.train) for split in request.splits]
        return super().fit_many(with_(request, splits=swapped))


class CountsPadding(LastVisit):
    """Takes a mean over whole batches, rows that weigh nothing among them."""

    def fit_many(self, request):
        examples = request.examples
        loader = Loader(with_(examples, layout=with_(examples.layout, modalities=(), grids=())))
        made = []
        for split, fitted in zip(request.splits, super().fit_many(request), strict=True):
            rows = np.flatnonzero(split.train)
            batch = loader.batch(rows, loader.size(8, rows), examples.eval_queries)
            learnt = with_(fitted.learnt["score"], slope=float(batch.visits.times.mean()))
            made.append(with_(fitted, learnt={**fitted.learnt, "score": learnt}))
        return made


class SharesItsFirstLane(LastVisit):
    def fit_many(self, request):
        return super().fit_many(with_(request, splits=[request.splits[0]] * len(request)))


class LearnsNothing(LastVisit):
    """Every member is the same, whatever it was given."""

    def fit_many(self, request):
        return super().fit_many(with_(request, splits=[SPLITS[2]] * len(request)))


class Forgets(LastVisit):
    def load(self, path, layout):
        loaded = super().load(path, layout)
        return with_(
            loaded,
            learnt={
                name: with_(one, slope=0.0) if hasattr(one, "slope") else one for name, one in loaded.learnt.items()
            },
        )


def own_subjects(recipe, cohort, _):
    laws.fitted_on_its_own_subjects(laws.fitted_together(recipe, cohort), laws.fitted_on_noise(recipe, cohort), cohort)


def lane(recipe, cohort, _):
    laws.a_lane_is_a_fit(laws.fitted_together(recipe, cohort), recipe.fit(cohort, SPLITS[1], KEYS[1]), cohort)


def kept(recipe, cohort, folder):
    laws.saved_and_loaded_it_is_the_same(recipe, recipe.fit(cohort, SPLITS[1], KEYS[1]), cohort, folder)


@pytest.mark.parametrize(
    ("law", "broken"),
    [
        (own_subjects, FitsOnTheTest),
        (own_subjects, CountsPadding),
        (own_subjects, LearnsNothing),
        (lane, SharesItsFirstLane),
        (lane, LearnsNothing),
        (kept, Forgets),
    ],
    ids=lambda f: f.__name__,
)
def test_a_broken_fit_is_caught(cohort, tmp_path, law, broken):
    law(LastVisit(trend=True), cohort, tmp_path)
    with pytest.raises(AssertionError):
        law(broken(trend=True), cohort, tmp_path)
