"""The protocols of a study: who trains, who tests, what was known when, from where it is asked."""

from dataclasses import replace

import numpy as np
import pytest

from framework.data.cohort.as_of import known
from framework.data.cohort.dates import dates, years
from framework.data.cohort.schema import Schema, Subject, Variable, Visit
from framework.data.cohort.store import write
from framework.data.ingest import ingest
from framework.data.ingest.table import Table
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.queries.origins import Each, First, Landmark, On
from framework.data.splits.groups import first_values, visited
from framework.data.splits.sites import ByGroup
from framework.data.splits.split import KFold
from framework.data.splits.temporal import Temporal
from framework.errors import UserError
from tests.cohorts import named

DAY = "2005-01-01"
SITES = ("north", "south", "east", "west")


def subject(i: int, rng: np.random.Generator) -> Subject:
    """Comes between 2002 and 2007, for one to five visits; one in five changes the scanner, one in nine has no site."""
    start, times = rng.uniform(2, 7), np.cumsum([0, *rng.uniform(0.3, 1.5, rng.integers(0, 5))])
    site, score = SITES[int(4 * rng.random() ** 2)], rng.normal(25, 3)
    other = SITES[int(rng.integers(4))] if rng.random() < 0.2 else site
    visits = tuple(
        Visit(
            f"v{j}",
            float(t),
            {
                "score": score - t,
                "stage": "ill" if score < 24 else "well",
                "scanner": site if j == 0 else other,
                "seen": start + t if j == 0 or rng.random() < 0.7 else None,
            },
        )
        for j, t in enumerate(times)
    )
    return Subject(f"s{i:02}", visits, {"site": None if rng.random() < 0.1 else site, "fate": "good"})


SCHEMA = Schema(
    variables=(
        Variable("score", ("input", "target"), "points"),
        Variable("stage", ("input", "target"), levels=("well", "ill")),
        Variable("scanner", ("group",), levels=SITES),
        Variable("seen", ("date",)),
    ),
    static=(Variable("site", ("group",), levels=SITES), Variable("fate", ("hindsight",), levels=("good", "bad"))),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    rng = np.random.default_rng(0)
    return write(str(tmp_path_factory.mktemp("protocols") / "c"), SCHEMA, (subject(i, rng) for i in range(60)))


def asked(cohort, **given):
    return Examples(cohort, layout(cohort.schema, ["score"]), **given)


PROTOCOLS = [
    KFold(5, 0.2, 0, 0, ["stage", "score"]),
    ByGroup("site", None, 0.2, 0, 0),
    ByGroup("site", 2, 0.2, 0, 0),
    ByGroup("scanner", None, 0.2, 0, 0),
    Temporal(DAY, None, 0.2, 0, 0),
    Temporal(DAY, 4, 0.2, 0, 0),
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=str)
def test_nobody_has_two_roles_nor_is_tested_twice_and_whoever_is_out_has_a_reason(cohort, protocol):
    splits = protocol.splits(cohort)
    for split in splits:
        parts = np.array([split.train, split.validation, split.test])
        assert (parts.sum(0) <= 1).all()
        assert parts.any(1).all()
        assert set(split.out) == set(np.flatnonzero(~parts.any(0)))
        assert [role for role in split.roles() if role == "out"] == []
    assert np.sum([split.test for split in splits], axis=0).max() == 1
    again, other = protocol.splits(cohort), protocol.splits(cohort, 1)
    for split, same, shuffled in zip(splits, again, other, strict=True):
        np.testing.assert_array_equal(split.test, same.test)
        np.testing.assert_array_equal(split.validation, same.validation)
        assert (split.validation != shuffled.validation).any()


def test_every_level_is_spread_evenly_over_the_folds(cohort):
    _, stage, _ = first_values(cohort, "stage")
    for repeat in range(5):
        tests = [split.test for split in KFold(5, 0.2, 0, 0, ["stage", "score"]).splits(cohort, repeat)]
        for level in (0, 1):
            counts = [int((test & (stage == level)).sum()) for test in tests]
            assert max(counts) - min(counts) <= 1
        assert sum(map(sum, tests)) == 60
    plain = [split.test for split in KFold(5, 0.2, 0, 0).splits(cohort)]
    assert np.ptp([(test & (stage == 1)).sum() for test in plain]) > 1, "chance alone does not"


@pytest.mark.parametrize("by", ["site", "scanner"])
def test_nobody_who_trains_was_ever_seen_where_it_is_tested(cohort, by):
    at = visited(cohort, by, 4)
    splits = ByGroup(by, None, 0.2, 0, 0).splits(cohort)
    assert len(splits) == 4
    _, home, has = first_values(cohort, by)
    for k, split in enumerate(splits):
        assert not at[split.train | split.validation, k].any()
        np.testing.assert_array_equal(split.test, has & (home == k))
    if by == "scanner":
        assert any("also seen at" in why for split in splits for why in split.out.values())
    else:
        assert {why for split in splits for why in split.out.values()} == {"no site"}


def test_sites_are_shared_among_folds_of_about_equal_size(cohort):
    splits = ByGroup("site", 2, 0.2, 0, 0).splits(cohort)
    at = visited(cohort, "site", 4)
    tested = [{g for g in range(4) if at[split.test, g].any()} for split in splits]
    assert tested[0] | tested[1] == {0, 1, 2, 3}
    assert not tested[0] & tested[1]
    largest = max(at.sum(0))
    assert abs(int(splits[0].test.sum()) - int(splits[1].test.sum())) <= largest


def test_nothing_of_the_future_is_learnt_from_and_nothing_of_the_past_is_asked(cohort):
    when = dates(cohort)
    for folds in (None, 4):
        protocol = Temporal(DAY, folds, 0.2, 0, 0)
        past, about = protocol.known(cohort), protocol.asks(cohort)
        assert past.subjects == cohort.subjects
        assert (when[past.valid] < years(DAY)).all()
        assert (when[cohort.valid & ~past.valid] >= years(DAY)).all()
        assert not past.observed[~past.valid].any()
        assert not past.values[~past.valid].any()
        assert not past.times[~past.valid].any()
        questions = asked(cohort, about=about).eval_queries
        answered = np.take_along_axis(when, questions.visit, 1)
        assert (answered[questions.query.valid] >= years(DAY)).all()
        for split in protocol.splits(cohort):
            assert past.valid[split.train | split.validation].any(1).all(), "whoever learns was known by then"
            assert questions.query.valid[split.test].any()
            if folds is None:
                assert (np.where(cohort.valid, when, np.inf)[split.test] >= years(DAY)).all()
            else:
                assert past.valid[split.test].any(1).all(), "whoever is followed was seen before"


def test_a_cohort_as_it_was_known_is_the_cohort_that_would_have_been_written_then(cohort, tmp_path):
    rng = np.random.default_rng(0)
    people = [subject(i, rng) for i in range(60)]
    keep = np.minimum(cohort.valid.sum(1), 2)
    then = write(str(tmp_path / "then"), SCHEMA, (replace(p, visits=p.visits[:2]) for p in people))
    past = known(cohort, keep)
    for name in ("times", "values", "observed"):
        np.testing.assert_array_equal(getattr(past, name)[:, :2], getattr(then, name))
    assert past.visits == then.visits
    np.testing.assert_array_equal(past.valid[:, :2], then.valid)


def origins_of(examples: Examples) -> list[set[int]]:
    query = examples.eval_queries.query
    return [set(origin[valid].tolist()) for origin, valid in zip(query.origin, query.valid, strict=True)]


def test_questions_are_asked_from_where_they_should(cohort):
    count, when = cohort.valid.sum(1), dates(cohort)
    each, first = (origins_of(asked(cohort, origins=o)) for o in (Each(), First()))
    landmark, day = (origins_of(asked(cohort, origins=o)) for o in (Landmark(1.5), On(DAY)))
    for i, visits in enumerate(count):
        assert each[i] == set(range(visits - 1))
        assert first[i] == ({0} if visits > 1 else set())
        times, days = cohort.times[i, :visits], when[i, :visits]
        last = int((times <= 1.5).sum()) - 1
        assert landmark[i] == ({last} if last < visits - 1 else set())
        last = int((days < years(DAY)).sum()) - 1
        assert day[i] == ({last} if 0 <= last < visits - 1 else set())
    assert (
        asked(cohort, origins=First()).train_queries.query.valid.sum() == asked(cohort).train_queries.query.valid.sum()
    )


def test_each_question_is_about_a_later_visit_with_its_own_truth(cohort):
    questions = asked(cohort, origins=Landmark(1.0)).eval_queries
    for i, q in zip(*np.nonzero(questions.query.valid), strict=True):
        visit = questions.visit[i, q]
        assert cohort.times[i, visit] > 1.0 >= cohort.times[i, questions.query.origin[i, q]]
        assert questions.truth["score"].value[i, q] == cohort.values[i, visit, 0]


def test_visits_without_a_date_are_dated_by_another_of_the_subject(cohort):
    when = dates(cohort)
    place = cohort.column("seen")
    known_dates = cohort.observed[..., place]
    np.testing.assert_array_equal(when[known_dates], cohort.values[known_dates, place])
    ahead = (when - when[:, :1])[cohort.valid]
    np.testing.assert_allclose(ahead, cohort.times[cohort.valid], atol=1e-9)


TABLE = """id,when,site,score
a,2004-01-01,north,20
a,2005-01-01,north,19
b,2004-07-01,south,
b,2006-01-01,south,21
"""


def test_sites_and_dates_are_read_from_a_table(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    made = ingest(
        Table(
            str(tmp_path / "t.csv"),
            "id",
            {"column": "when", "units": "date"},
            variables={"score": {"roles": ["input", "target"]}, "date": {"column": "when", "roles": ["date"]}},
            static={"site": {"roles": ["group"], "levels": ["north", "south"]}},
        ),
        str(tmp_path / "store"),
    )
    assert made.subjects == ("a", "b")
    assert made.valid.sum() == 3, "a date alone is no measurement"
    np.testing.assert_allclose(dates(made)[made.valid], [years("2004-01-01"), years("2005-01-01"), years("2006-01-01")])
    assert [c.name for c in layout(made.schema, ["score"]).inputs] == ["score"], "neither is an input"
    assert years("2004-01-01") == pytest.approx(4, abs=0.01)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda c: ByGroup("stage", None, 0.1, 0, 0).splits(c), "expected a group"),
        (lambda c: ByGroup("center", None, 0.1, 0, 0).splits(c), "'center' is unknown"),
        (lambda c: ByGroup("site", 9, 0.1, 0, 0).splits(c), "cannot make 9 folds"),
        (lambda c: KFold(3, 0.1, 0, 0, ["fate"]).splits(c), "hindsight"),
        (lambda c: Temporal("soon", None, 0.1, 0, 0), "expected a date"),
        (lambda c: Temporal("1999-01-01", None, 0.1, 0, 0).splits(c), "no subject is left for train"),
        (lambda c: Temporal("2030-01-01", None, 0.1, 0, 0).splits(c), "no subject is left for test"),
        (lambda c: Temporal(DAY, None, 0.1, 0, 0).splits(named("ab")), "have no date"),
        (lambda c: Landmark(-1.0), "expected 0 or more"),
        (lambda c: asked(c, origins=Landmark(99.0)), "no subject has a visit to ask about"),
        (lambda c: Variable("seen", ("date",), levels=("a", "b")), "is a date and has levels"),
    ],
)
def test_what_cannot_be_is_one_line(cohort, make, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        make(cohort)
    assert "\n" not in str(told.value)
