"""Missing codes, numbers and ranges: no code is a measurement, and no number is guessed."""

import pytest

from framework.data.ingest.tables.columns import Column
from framework.errors import UserError
from tests.cases.tables import SCORE, read, warnings


def observed(cohort, name: str) -> list[float]:
    place = cohort.column(name)
    return cohort.values[..., place][cohort.observed[..., place] & cohort.valid].tolist()


@pytest.mark.parametrize("code", ["-4", "-4.0", "-4.00", "-4e0"])
def test_a_missing_code_is_matched_by_value(tmp_path, code):
    text = f"subject,time,score,sys\na,0,{code},120\na,1,28,999.00\na,2,-4,88\nb,0,27,999\n"
    cohort = read(tmp_path, text, missing=("-4", "999"), variables={**SCORE, "sys": {}})
    assert observed(cohort, "score") == [28, 27]
    assert observed(cohort, "sys") == [120, 88]


def test_an_unnamed_code_far_from_all_values_is_warned_of(tmp_path):
    rows = [f"s{i},{t},{20 + i + t}" for i in range(8) for t in range(2)]
    text = "\n".join(["subject,time,score", *rows, "a,0,999", "a,1,999", "b,0,-4", "b,1,-4.0"]) + "\n"
    said = warnings(read(tmp_path, text))
    assert [("is 999 2 times" in line, "is -4 2 times" in line) for line in said] == [(True, False), (False, True)]
    assert warnings(read(tmp_path, text, missing=("999", "-4"))) == []


@pytest.mark.parametrize(
    "spec", [{"levels": ["NA", "EU"], "roles": ["group"]}, {"levels": ["EU", "x"], "map": {"n/a": "x"}}]
)
def test_a_level_that_is_a_missing_code_is_refused(tmp_path, spec):
    with pytest.raises(UserError, match=r"variable 'site' has the .* which is also a code of missing"):
        read(tmp_path, "subject,time,score,site\na,0,1,EU\n", static={"site": spec})
    spec = {"levels": ["NA", "EU"], "roles": ["group"]}
    text = "subject,time,score,site\na,0,1,EU\nb,0,1,NA\n"
    assert read(tmp_path, text, static={"site": spec}, missing=()).static_observed.all()


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("1_000", ""),
        ("٣", ""),
        ("0x10", ""),
        ("90+", "a bound such as 90"),
        (">89", "a bound such as 90"),
        ("7,5", "declare it with data.reader.decimal=','"),
        ("1 000", "marks of thousands"),
        ("−4", "its minus is no hyphen"),
        ("5 kg", "a unit behind the number"),
        ("1e999", ""),
    ],
)
def test_what_is_no_plain_number_is_refused_with_its_likely_cause(cell, why):
    with pytest.raises(UserError, match="is no finite number") as caught:
        Column("age").read(cell)
    assert why in str(caught.value)
    assert cell not in str(caught.value).replace("90+ or <5", "")


def test_a_declared_decimal_mark_is_the_only_one(tmp_path):
    text = "subject;time;score\na;0;1,5\na;0,5;-2\nb;0;999,0\n"
    cohort = read(tmp_path, text, decimal=",", separator=";", missing=("999",))
    assert observed(cohort, "score") == [1.5, -2]
    assert cohort.times[0].tolist() == [0, 0.5]
    with pytest.raises(UserError, match="its mark is a point"):
        read(tmp_path, text.replace("1,5", "1.500"), decimal=",", separator=";")
    with pytest.raises(UserError, match="decimal is"):
        read(tmp_path, text, decimal="'")


def test_ages_of_the_deidentified_are_warned_of_and_can_be_mapped(tmp_path):
    age = {"roles": ["input", "future"], "units": "years", "per_year": 1}
    text = "subject,time,score,age\na,0,1,300\na,1,2,301\nb,0,1,71\nb,1,2,72\n"
    (said,) = warnings(read(tmp_path, text, variables={**SCORE, "age": age}))
    assert "2 of 4 values of age (column 'age', in years) are outside [0, 120]" in said
    text = text.replace("300", "90+").replace("301", ">89")
    mapped = age | {"map": [["90+", 90], [">89", 91]]}  # as it can be spelt on a command line, too
    cohort = read(tmp_path, text, variables={**SCORE, "age": mapped})
    assert observed(cohort, "age") == [90, 91, 71, 72]
    assert warnings(cohort) == []


def test_a_variable_that_nobody_has_is_an_error(tmp_path):
    text = "subject,time,score,dose\na,0,1,NA\nb,1,2,\n"
    with pytest.raises(UserError, match=r"dose .* has no value for any of 2 subjects.*sparse: true"):
        read(tmp_path, text, variables={**SCORE, "dose": {}})
    (said,) = warnings(read(tmp_path, text, variables={**SCORE, "dose": {"sparse": True}}))
    assert "dose" in said
    with pytest.raises(UserError, match="column 'gone' is unknown"):
        read(tmp_path, text, variables={**SCORE, "gone": {"sparse": True}})
    cohort = read(tmp_path, text, variables={**SCORE, "gone": {"optional": True, "roles": ["target"]}})
    assert observed(cohort, "gone") == []
    assert warnings(cohort) == []
