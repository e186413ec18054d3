"""When events came, and what is asked of them, counted by hand on a cohort small enough to do so."""

import dataclasses

import jax
import numpy as np
import pytest

from framework.data.cohort.schema import Schema, Subject, Value, Variable, Visit
from framework.data.cohort.store import Cohort, write
from framework.data.queries.events import RecordedEvent, ThresholdReached, since_origin
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.data.splits.temporal import Temporal
from framework.errors import UserError
from framework.forecast.references import LastVisit
from framework.types import Interval

STAGE = Variable("stage", ("input", "target"), levels=("well", "mild", "ill"), ordered=True)
SCORE = Variable("score", ("input", "target"), "points")
AGE = Variable("age", ("input", "future"), "years", per_year=1.0)
DEATH, LAST = (Variable(name, ("hindsight",), "years") for name in ("death", "last_contact"))
SCHEMA = Schema((STAGE, SCORE, AGE), (DEATH, LAST, Variable("school")))
SERIES: dict[str, tuple[dict[str, Value], list[tuple]]] = {  # subject -> static, [(years, stage, score)]
    "comes": ({"death": 76.0}, [(0, "well", 9), (1, "well", 8), (3, "mild", 5), (4, "well", 7)]),
    "never": ({"last_contact": 80.0}, [(0, "well", 9), (2, "well", 6)]),
    "gap": ({}, [(0, "well", 9), (1, None, None), (2, "ill", 1)]),
    "from the first": ({"death": 71.0}, [(0, "mild", 3), (2, "ill", 1)]),
    "untold": ({"death": 73.0}, [(0, None, 9), (1, None, 9)]),
    "once": ({"death": 70.5}, [(0, "well", 9)]),
}
CONVERSION = ThresholdReached(variable="stage", level="mild", horizons=[1.0, 2.0])
DYING = RecordedEvent(time="death", until="last_contact", age="age", resolution_years=0.5)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    subjects = (
        Subject(
            name,
            tuple(
                Visit(f"v{j}", float(time), {"stage": stage, "score": score and float(score), "age": 70.0 + time})
                for j, (time, stage, score) in enumerate(visits)
            ),
            static,
        )
        for name, (static, visits) in SERIES.items()
    )
    return write(str(tmp_path_factory.mktemp("cohort") / "c"), SCHEMA, subjects)


def ends(cohort, event) -> dict[str, tuple[float, float]]:
    lo, hi = event.between(cohort)
    return {name: (lo[i], hi[i]) for i, name in enumerate(cohort.subjects)}


def examples(cohort, *targets: str, task: str = "future_visits") -> Examples:
    events = {"conversion": CONVERSION, "dying": DYING}
    events = {name: events[name] for name in targets if name in events}
    return Examples(cohort, layout(cohort.schema, targets, (), events), task, events=events)


def test_a_level_is_reached_between_two_visits(cohort):
    inf = np.inf
    assert ends(cohort, CONVERSION) == {
        "comes": (1, 3),  # once reached, for good
        "never": (2, inf),
        "gap": (0, 2),
        "from the first": (-inf, 0),
        "untold": (-inf, inf),
        "once": (0, inf),
    }
    assert ends(cohort, ThresholdReached(variable="stage", level="ill"))["comes"] == (4, inf)
    assert ends(cohort, ThresholdReached(variable="score", level=6, direction="falling")) == {
        "comes": (1, 3),
        "never": (0, 2),
        "gap": (0, 2),
        "from the first": (-inf, 0),
        "untold": (1, inf),
        "once": (0, inf),
    }


def test_levels_without_order_have_no_beyond(cohort):
    plain = dataclasses.replace(STAGE, ordered=False)
    renamed = dataclasses.replace(cohort, schema=Schema((plain, SCORE, AGE), SCHEMA.static))
    assert ends(renamed, CONVERSION)["from the first"] == (-np.inf, 0)
    assert ends(renamed, CONVERSION)["gap"] == (2, np.inf)  # ill is not mild


def test_a_time_of_its_own_counts_from_the_first_visit(cohort):
    assert ends(cohort, DYING) == {
        "comes": (5.5, 6),
        "never": (10, np.inf),
        "gap": (2, np.inf),  # nothing told: followed to the last visit
        "from the first": (0.5, 1),  # told before the last visit: taken as it is told
        "untold": (2.5, 3),
        "once": (0, 0.5),
    }
    years = ends(cohort, RecordedEvent(time="last_contact", resolution_years=1.0))
    assert years["never"] == (79, 80)


def test_an_event_before_the_origin_takes_the_row_out():
    lo, hi = np.array([0.0, 2.0, 2.0, 5.0, 4.0, -np.inf]), np.array([1.0, 3.0, 3.0, np.inf, np.inf, 5.0])
    told = since_origin(lo[:, None], hi[:, None], np.array([1.0, 1.0, 2.5, 4.0, 4.0, 4.0])[:, None])
    np.testing.assert_array_equal(told.observed[:, 0], [False, True, True, True, False, True])
    np.testing.assert_array_equal(told.lo[:, 0], [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(told.hi[:, 0], [np.inf, 2, 0.5, np.inf, np.inf, 1])


def test_each_history_has_one_event_and_those_out_are_in_the_ledger_by_name(cohort):
    one = examples(cohort, "conversion")
    asked, truth = one.eval_queries.query, one.eval_queries.truth["conversion"]
    assert isinstance(truth, Interval)
    origin = np.take_along_axis(cohort.times, np.asarray(asked.origin), 1)
    assert (asked.time == origin)[asked.valid].all()
    told = {
        (one.subjects[i], int(asked.origin[i, q])): (truth.lo[i, q], truth.hi[i, q])
        for i, q in np.argwhere(truth.observed)
    }
    assert told == {
        ("comes", 0): (1, 3),
        ("comes", 1): (0, 2),
        ("never", 0): (2, np.inf),
        ("gap", 0): (0, 2),
        ("gap", 1): (0, 1),  # it may have come by then
    }
    out = {(entry.subject, entry.visit): entry.reason for entry in one.left_out()}
    came, unknown = "conversion had come by this visit", "nothing is known of conversion after this visit"
    assert out == {
        ("comes", "v2"): came,
        ("comes", "v3"): came,
        ("never", "v1"): unknown,
        ("gap", "v2"): came,
        ("from the first", "v0"): came,
        ("from the first", "v1"): came,
        ("untold", "v0"): unknown,
        ("untold", "v1"): unknown,
        ("once", "v0"): unknown,
    }
    assert {entry.item for entry in one.left_out()} == {"conversion"}
    valid = int(cohort.valid.sum())
    assert len(told) + len(out) == valid == int(asked.valid.sum())


def test_a_subject_with_one_visit_is_followed_by_a_date(cohort):
    one = examples(cohort, "dying")
    i = one.subjects.index("once")
    truth = one.eval_queries.truth["dying"]
    assert isinstance(truth, Interval)
    assert (truth.lo[i, 0], truth.hi[i, 0], truth.observed[i, 0]) == (0, 0.5, True)


@pytest.mark.parametrize("queries", ["eval_queries", "train_queries"])
@pytest.mark.parametrize("task", ["future_visits", "next_visit"])
def test_an_event_changes_nothing_of_the_other_queries(cohort, queries, task):
    def told(one: Examples, name: str):
        found, truth = getattr(one, queries), getattr(one, queries).truth[name]
        rows = np.argwhere(truth.observed)
        return {(i, int(found.query.origin[i, q]), float(found.query.time[i, q]), truth.value[i, q]) for i, q in rows}

    assert told(examples(cohort, "score", "conversion", task=task), "score") == told(
        examples(cohort, "score", task=task), "score"
    )
    events = getattr(examples(cohort, "score", "conversion", task=task), queries).truth["conversion"]
    assert events.observed.sum() == examples(cohort, "conversion").eval_queries.truth["conversion"].observed.sum()


def test_what_cannot_be_an_event_is_one_line(cohort):
    wrong = {
        "expected one of its levels ['mild', 'ill']": ThresholdReached(variable="stage", level="well"),
        "expected a number": ThresholdReached(variable="score", level="low"),
        "variable 'mood' is not in the cohort": ThresholdReached(variable="mood", level=1),
        "give it roles: [hindsight]": RecordedEvent(time="school"),
        "score does not advance by itself": RecordedEvent(time="death", age="score"),
        "once per subject 'age' is not in": RecordedEvent(time="age"),
        "resolution_years is 0": RecordedEvent(time="death", resolution_years=0.0),
    }
    for complaint, event in wrong.items():
        with pytest.raises(UserError) as error:
            layout(cohort.schema, ["it"], (), {"it": event})
        assert complaint in str(error.value)
    with pytest.raises(UserError, match="expected years above 0, ascending"):
        ThresholdReached(variable="score", level=3, horizons=[2.0, 1.0])
    with pytest.raises(UserError, match="an event and a variable of the cohort"):
        layout(cohort.schema, ["score"], (), {"score": CONVERSION})
    with pytest.raises(UserError, match="'conversion' is not in the cohort"):
        layout(cohort.schema, ["conversion"])


def test_an_event_that_nobody_can_meet_is_refused(cohort):
    event = ThresholdReached(variable="score", level=0)  # all had as much at their first visit
    with pytest.raises(UserError, match="no subject is at risk of 'it'"):
        Examples(cohort, layout(cohort.schema, ["it"], (), {"it": event}), events={"it": event})


def test_an_event_that_is_no_target_is_not_looked_at(cohort):
    assert [
        t.name for t in layout(cohort.schema, ["score"], (), {"it": ThresholdReached(variable="mood", level=1)}).targets
    ] == ["score"]


TOLD = {  # subject -> first date (years since 2000), visits, death, last contact; nothing is known from 2005 on
    "before": (0.0, [0, 2], 3.0, None),
    "after": (1.0, [0, 2, 5], 6.0, None),
    "alive": (2.0, [0, 1, 4], None, 9.0),
    "lost": (0.0, [0, 1], None, 2.5),
    "untold": (3.0, [0, 1, 3], None, None),
    "later": (6.0, [0, 1], 2.0, None),
}
DAY = Temporal("2005-01-01", None, 0.0, 0, 0)
AFTER = {  # what else might have come of them after the day
    "after": (1.0, [0, 2, 9], None, 20.0),
    "alive": (2.0, [0, 1, 3.5, 7], 3.4, None),
    "untold": (3.0, [0, 1], None, None),
}


def dated(told: dict) -> Cohort:
    """Their cohort in memory, death and last contact in years since the first visit."""
    schema = Schema((SCORE, Variable("seen", ("date",), "years since 2000-01-01")), (DEATH, LAST))
    width = max(len(times) for _, times, *_ in told.values())
    times = np.array([[*own, *[0] * (width - len(own))] for _, own, *_ in told.values()], float)
    valid = np.array([np.arange(width) < len(own) for _, own, *_ in told.values()])
    start = np.array([start for start, *_ in told.values()])
    values = np.where(valid[..., None], np.stack([10 - times, start[:, None] + times], -1), 0)
    static = np.array([[np.nan if x is None else x for x in last] for _, _, *last in told.values()])
    entries = [
        {"id": name, "visits": [{"id": f"v{j}", "scans": {}} for j in range(len(own))]}
        for name, (_, own, *_) in told.items()
    ]
    observed = np.repeat(valid[..., None], 2, -1)
    return Cohort("", schema, {"subjects": entries}, times, values, observed, np.nan_to_num(static), ~np.isnan(static))


def test_an_event_after_the_day_is_censored_at_the_day():
    inf, known = np.inf, DAY.known(dated(TOLD))
    followed = ends(known, RecordedEvent(time="death", until="last_contact", resolution_years=0.5))
    day = 1827 / 365.25  # from 2000-01-01 to 2005-01-01
    assert {name: pytest.approx(both) for name, both in followed.items()} == {
        "before": (2.5, 3),
        "after": (day - 1, inf),
        "alive": (day - 2, inf),
        "lost": (2.5, inf),
        "untold": (1, inf),
        "later": (0, inf),
    }
    by_visits = ends(known, RecordedEvent(time="death", resolution_years=0.5))
    assert by_visits["after"] == (2, inf)  # seen last then
    assert by_visits["before"] == (2.5, 3)
    assert ends(dated(TOLD), RecordedEvent(time="death", resolution_years=0.5))["after"] == (
        5.5,
        6,
    )  # whoever is tested is told all


@pytest.mark.parametrize("until", ["last_contact", None])
def test_what_happens_after_the_day_reaches_no_fit(until):
    """Events that come later, sooner or not at all, and further visits, leave what is learnt bit-equal."""
    event = {"dead": RecordedEvent(time="death", until=until, horizons=[1.0, 2.0])}

    def learnt(told: dict):
        cohort = DAY.known(dated(told))
        one = Examples(cohort, layout(cohort.schema, ["dead"], (), event), events=event)
        rows = np.arange(len(cohort.subjects)) < 5
        return LastVisit(False).fit(one, Split(rows, rows & False, ~rows), jax.random.key(0)).learnt

    as_it_came = learnt(TOLD)
    assert as_it_came["dead"].rate > 0
    assert learnt(TOLD | AFTER) == as_it_came
    assert learnt(TOLD | {"before": (0.0, [0, 2], 2.5, None)}) != as_it_came  # which was known by then
