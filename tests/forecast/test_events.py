"""Events forecast: the floors beside scikit-survival, Cox's penalty chosen on subjects left out, curves asked at once."""

import dataclasses

import jax
import numpy as np
import pytest

from framework.baselines.survival.cox import Survival
from framework.baselines.survival.kaplan_meier import kaplan_meier, right_censored
from framework.data.batches.batch import Loader
from framework.data.cohort.schema import Variable
from framework.data.queries.events import ThresholdReached
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.cox import Proportional
from framework.forecast.ensembles.ensemble import FittedEnsemble, Voting
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.types import Interval
from tests.cohorts import table
from tests.contracts import forecaster_laws as laws
from tests.contracts.recipes import forecaster

KEY = jax.random.key(0)
VARIABLES = (
    Variable("score", ("input", "target"), "points"),
    Variable("stage", ("input", "target"), levels=("well", "ill"), ordered=True),
    Variable("treated", ("input", "future"), levels=("no", "yes")),
    Variable("age", ("input", "future"), "years", per_year=1.0),
)
ILL = ThresholdReached(variable="stage", level="ill", horizons=(1.0, 2.0, 4.0))
COX = Proportional([1.0, 10.0], 3)


def series(subjects: int, seed: int = 0) -> dict:
    """People who fall ill the sooner the higher their score; every third was never asked for it."""
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(subjects):
        score, treated = rng.normal(), "no" if i % 2 else "yes"
        came = rng.exponential(3 * np.exp(-score) * (1.0 if i % 2 else 2.0))
        times = np.cumsum([0.0, *rng.uniform(0.5, 1.5, int(rng.integers(1, 6)))])
        seen = {"treated": treated} | ({"score": score} if i % 3 else {})
        made[f"s{i:02}"] = [
            (t, seen | {"stage": "ill" if t >= came else "well", "age": 60 + score + t}) for t in times.tolist()
        ]
    return made


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Examples:
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", VARIABLES, series(40))
    return Examples(cohort, layout(cohort.schema, ["ill"], (), {"ill": ILL}), events={"ill": ILL})


@pytest.fixture(scope="module")
def split() -> Split:
    order = np.arange(40)
    return Split(order < 24, (order >= 24) & (order < 30), order >= 30)


def survived(one: Examples, rows) -> Survival:
    truth = one.eval_queries.truth["ill"]
    assert isinstance(truth, Interval)
    known = truth.observed & rows[:, None]
    return right_censored(truth.lo[known], truth.hi[known])


def test_the_floors_tell_everybody_the_same(study, split):
    one = survived(study, split.train)
    told = [
        answers(LastVisit(d).fit(study, split, KEY), study, range(40), study.eval_queries)["ill"] for d in (False, True)
    ]
    valid = study.eval_queries.query.valid
    left = kaplan_meier(one, np.ones(len(one.time))).at(np.array(ILL.horizons))
    np.testing.assert_allclose(told[0][valid], np.broadcast_to(left, told[0][valid].shape), rtol=1e-5)
    rate = one.event.sum() / one.time.sum()
    np.testing.assert_allclose(told[1][valid][0], np.exp(-float(rate) * np.array(ILL.horizons)), rtol=1e-5)


@pytest.fixture(scope="module")
def cox(study, split):
    log = []
    return COX.fit(study, split, KEY, log=log.append), log


def test_cox_ranks_people_by_what_makes_them_ill(study, split, cox):
    fitted, log = cox
    told = answers(fitted, study, range(40), study.eval_queries)["ill"][..., -1]
    truth = study.eval_queries.truth["ill"]
    rows = np.argwhere(truth.observed & split.test[:, None])
    risk, came = -told[tuple(rows.T)], np.isfinite(truth.hi[tuple(rows.T)])
    assert risk[came].mean() > risk[~came].mean()
    scores = dict(log[0]["scores"]["ill"])
    assert set(scores) == {1.0, 10.0}
    assert log[0]["validation"] == min(scores.values())


def test_cox_obeys_the_laws(study, split, cox, tmp_path):
    fitted, _ = cox
    batch = laws.asked(fitted, study, range(40))
    before = laws.told(fitted, batch)["ill"]
    for origin in range(2):
        future = dataclasses.replace(batch, visits=laws.another_future(batch.visits, origin))
        asks = (batch.query.origin == origin) & batch.query.valid
        np.testing.assert_array_equal(laws.told(fitted, future)["ill"][asks], before[asks])
    fitted.save(tmp_path / "m")
    again = laws.told(COX.load(tmp_path / "m", study.layout), batch)["ill"]
    np.testing.assert_array_equal(again, before)


def test_any_time_after_the_origin_can_be_asked_for(study, cox):
    """The curve at the horizons is what queries at these times say; asked at the origin it is 1."""
    fitted, _ = cox
    told = answers(fitted, study, range(40), study.eval_queries)["ill"]
    for k, year in enumerate(ILL.horizons):
        query = study.eval_queries.query
        age = [column.name for column in study.layout.known].index("age")
        known = np.array(query.known)
        known[..., age] += year
        later = dataclasses.replace(
            study.eval_queries, query=dataclasses.replace(query, time=query.time + year, known=known)
        )
        alone = answers(fitted, study, range(40), later, curves=False)["ill"][..., 0]
        valid = query.valid
        np.testing.assert_allclose(alone[valid], told[..., k][valid], atol=1e-5)
    here = answers(fitted, study, range(40), study.eval_queries, curves=False)["ill"]
    np.testing.assert_array_equal(here[study.eval_queries.query.valid], 1)


def test_curves_come_together_in_an_ensemble(study, split, cox):
    both = Voting({"cox": COX, "floor": LastVisit(False)}, "mean").fit(study, split, KEY)
    assert isinstance(both, FittedEnsemble)
    alone = [answers(one, study, range(40), study.eval_queries)["ill"] for one in both.members.values()]
    whole = answers(both, study, range(40), study.eval_queries)["ill"]
    np.testing.assert_allclose(whole, np.mean(alone, axis=0), atol=1e-6)


def test_who_answers_what(study, split):
    with pytest.raises(UserError, match="for ill, an event, take cox or a net"):
        forecaster("ridge").fit(study, split, KEY)
    schema = study.cohort.schema
    numbers = dataclasses.replace(study, layout=layout(schema, ["score"]))
    with pytest.raises(UserError, match=r"\['score'\] are none; name one of data.events"):
        COX.fit(numbers, split, KEY)


@pytest.mark.long
def test_cox_leaves_numbers_to_others(study, split):
    mixed = dataclasses.replace(study, layout=layout(study.cohort.schema, ["score", "ill"], (), {"ill": ILL}))
    told = answers(COX.fit(mixed, split, KEY), mixed, range(40), mixed.eval_queries)
    assert list(told) == ["ill"]
    assert told["ill"].shape == (*mixed.eval_queries.query.time.shape, 3)


def test_a_query_before_its_origin_is_refused(study, cox):
    query = study.eval_queries.query
    early = dataclasses.replace(study.eval_queries, query=dataclasses.replace(query, time=query.time - 0.5))
    with pytest.raises(
        UserError, match=r"subject 's00' is asked about -0.5 years from visit 0, which was at 0; ask at"
    ):
        answers(cox[0], study, range(40), early)


def test_nobody_ever_ill_in_training_is_told_to_be_safe_or_nearly(study, split):
    """No event is no proof that none can come, and no error."""
    never = np.array([not np.isfinite(hi) for hi in ILL.between(study.cohort)[1]])
    healthy = Split(never & ~split.test, np.zeros(40, bool), split.test)
    for recipe in (LastVisit(False), LastVisit(True), COX):
        told = answers(recipe.fit(study, healthy, KEY), study, range(40), study.eval_queries)["ill"]
        np.testing.assert_allclose(told[study.eval_queries.query.valid], 1)


def test_a_loader_keeps_the_ends(study):
    """Padding is no event; float32 keeps infinity."""
    loader = Loader(study)
    truth = loader.batch([0, 1], loader.size(3, [0, 1]), study.train_queries).truth["ill"]
    assert isinstance(truth, Interval)
    assert truth.lo.dtype == np.float32
    assert not truth.observed[2].any()
    assert np.isinf(np.asarray(truth.hi)[:2]).any()
