"""Dates, events and visit codes: what cannot be is an error, what hardly can be a warning with its count."""

import pytest

from framework.errors import UserError
from tests.cases.tables import SCORE, read, warnings

DATES = {"column": "time", "units": "date"}
DEATH = {"death": {"is_event_time": True, "roles": ["hindsight"]}}


@pytest.mark.parametrize("shifted", [False, True])
def test_years_of_two_digits_that_land_in_the_next_century_are_refused_unless_shifted(tmp_path, shifted):
    text = "subject,time,score\na,13/02/66,28\na,13/02/70,27\nb,01/02/05,28\nb,01/02/06,27\n"
    time = {**DATES, "format": "%d/%m/%y", "shifted": shifted}
    if shifted:
        (said,) = warnings(read(tmp_path, text, time=time))
        assert "years of two digits" in said
    else:
        with pytest.raises(UserError, match=r"line 2 \(subject 'a'\): time .* lies after today.*time.shifted: true"):
            read(tmp_path, text, time=time)


def test_a_follow_up_longer_than_sixty_years_by_dates_is_refused(tmp_path):
    text = "subject,time,score\na,1920-02-01,28\na,2005-02-01,27\n"
    with pytest.raises(UserError, match=r"subject 'a' is followed for 85 years"):
        read(tmp_path, text, time=DATES)
    assert read(tmp_path, text, time={**DATES, "shifted": True}).times.max() == pytest.approx(85, abs=0.01)


@pytest.mark.parametrize(
    ("death", "complaint"),
    [
        (
            "2001-06-01",
            r"1 subjects have death .* before a visit, such as 'a' before their first visit \(t.csv line 2\)",
        ),
        ("2005-06-01", r"such as 'a' before a visit \(t.csv line 3\)"),
        ("2085-06-01", r"line 2 \(subject 'a'\): death .* lies after today"),
    ],
)
def test_a_death_that_cannot_be_is_refused(tmp_path, death, complaint):
    text = f"subject,time,score,death\na,2005-02-01,28,{death}\na,2006-02-01,27,\nd,2005-02-01,28,\nd,2006-02-01,27,\n"
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, text, time=DATES, static=DEATH)


def test_an_event_that_may_come_before_a_visit_is_said_so(tmp_path):
    text = "subject,time,score,onset\na,0,28,-3\na,1,27,\nb,0,3,0.5\nb,1,3,\nc,0,1,\n"
    onset = {"is_event_time": True, "roles": ["hindsight"]}
    assert warnings(read(tmp_path, text, static={"onset": onset})) == []
    with pytest.raises(UserError, match="terminal: false"):
        read(tmp_path, text, static={"onset": onset | {"terminal": True}})
    death = {"death": {"column": "onset", **onset, "terminal": False}}
    assert read(tmp_path, text, static=death).static[0, 0] == -3


def test_the_end_of_follow_up_in_the_place_of_a_death_is_warned_of(tmp_path):
    rows = [f"s{i},{t},{i + t},{3 + i}" for i in range(6) for t in range(2)]
    text = "\n".join(["subject,time,score,death", *rows]) + "\n"
    (said,) = warnings(read(tmp_path, text, static=DEATH))
    assert "death (column 'death') is there for every one of 6 subjects" in said
    assert warnings(read(tmp_path, text.replace(",8\n", ",\n"), static=DEATH)) == []


def test_days_read_as_months_are_refused_or_warned_of(tmp_path):
    def text(days: int) -> str:
        return "subject,time,score\n" + "".join(f"s{i},{t * days},{i}\n" for i in range(4) for t in range(4))

    months = {"column": "time", "units": "months"}
    with pytest.raises(UserError, match=r"followed for 190 years \('time' in months.*in days it would be 6.2 years"):
        read(tmp_path, text(760), time=months)
    (said,) = warnings(read(tmp_path, text(200), time=months))
    assert "17 years apart in the median" in said
    assert "check the units of time" in said
    assert warnings(read(tmp_path, text(12), time=months)) == []


def test_an_age_that_does_not_advance_with_time_is_warned_of(tmp_path):
    rows = [f"s{i},{6 * t},{i},{70 + i + t // 2}" for i in range(8) for t in range(5)]
    text = "\n".join(["subject,time,score,age", *rows]) + "\n"
    age = {"age": {"units": "years", "per_year": 1, "roles": ["input", "future"]}}
    said = warnings(read(tmp_path, text, time={"column": "time", "units": "years"}, variables={**SCORE, **age}))
    assert any("age (column 'age') does not advance with time in 8 of 8 subjects" in line for line in said)
    months = {"column": "time", "units": "months"}
    assert warnings(read(tmp_path, text, time=months, variables={**SCORE, **age})) == []


def test_a_format_that_another_could_not_be_told_from_is_warned_of_with_its_count(tmp_path):
    time = {**DATES, "format": "%d/%m/%Y"}
    text = "subject,time,score\na,01/02/2005,28\na,03/08/2005,27\nb,02/01/2005,29\nb,08/03/2005,28\n"
    (said,) = warnings(read(tmp_path, text, time=time))
    assert (
        "none of 4 dates in column 'time' has a day above 12, so %d/%m/%Y is not distinguishable from %m/%d/%Y" in said
    )
    assert "4 would be other days" in said
    assert warnings(read(tmp_path, text.replace("01/02", "21/02"), time=time)) == []
    assert warnings(read(tmp_path, text.replace("/2005", "/2005"), time={**DATES, "format": "%m/%d/%Y"}))


def test_so_it_is_at_one_site_alone(tmp_path):
    time, site = {**DATES, "format": "%d/%m/%Y"}, {"site": {"roles": ["group"], "levels": ["eu", "us"]}}
    eu = [f"e{i},{3 + 5 * i:02}/0{1 + i}/20{10 + t},{i},eu" for i in range(5) for t in range(3)]
    us = [f"u{i},0{1 + i}/1{i % 3}/20{10 + t},{i},us" for i in range(5) for t in range(3)]
    (said,) = warnings(read(tmp_path, "\n".join(["subject,time,score,site", *eu, *us]) + "\n", time=time, static=site))
    assert "none of 15 dates of site 'us' in column 'time' has a day above 12" in said


@pytest.mark.parametrize(
    ("visits", "complaint"),
    [
        (["m12,0", "bl,1"], r"visits out of order: the codes 'm12' and 'bl' and 'time' disagree at t.csv line 2 and"),
        (["ses-20100131,0", "ses-20090131,1"], "visits out of order"),
        (["M012,0", "M000,1"], "visits out of order"),
    ],
)
def test_codes_of_visits_against_the_order_of_time_are_refused(tmp_path, visits, complaint):
    text = "visit,time,subject,score\n" + "".join(f"{visit},a,1\n" for visit in visits)
    with pytest.raises(UserError, match=complaint):
        read(tmp_path, text, visit="visit")


def test_a_visit_far_from_its_code_is_named(tmp_path):
    text = "visit,time,subject,score\nbl,0,a,1\nm06,0.5,a,1\nm12,11,a,1\nbl,0,b,1\nm06,0.6,b,1\n"
    (said,) = warnings(read(tmp_path, text, visit="visit"))
    assert "1 visits of 1 subjects are more than half a year from what their codes say" in said
    assert "'m12' of subject 'a' (t.csv line 4), by 10.0 years" in said


def test_an_event_after_the_end_of_follow_up_is_refused(tmp_path):
    from framework.data.queries.events import RecordedEvent

    text = "subject,time,score,death,last\na,0,1,5,3\nb,0,1,,4\nc,0,1,2,2\n"
    static = {name: {"is_event_time": True, "roles": ["hindsight"]} for name in ("death", "last")}
    cohort = read(tmp_path, text, static=static)
    with pytest.raises(UserError, match=r"'death' comes after 'last' in 1 subjects, such as 'a'"):
        RecordedEvent(time="death", until="last").between(cohort)
    fine = read(tmp_path, text.replace("5,3", "3,3"), static=static)
    assert RecordedEvent(time="death", until="last").between(fine)[1][0] == 3


def test_dates_of_visits_settle_the_format_of_the_few_of_an_event(tmp_path):
    time = {**DATES, "format": "%d/%m/%Y"}
    text = "subject,time,score,death\na,21/02/2005,28,03/04/2006\na,03/08/2005,27,\nb,02/01/2005,29,\n"
    assert warnings(read(tmp_path, text, time=time, static=DEATH)) == []
    (said,) = warnings(read(tmp_path, text.replace("21/02", "01/02"), time=time, static=DEATH))
    assert "none of 4 dates in column 'time' and 'death' has a day above 12" in said
