"""The age in a column is of the moment that it says, not of the first row that happens to be there."""

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.ingest.base import ingest
from framework.errors import UserError
from tests.cases.tables import SCORE, read, warnings

HEADER = (
    "RID,VISCODE,EXAMDATE,DX,DXCHANGE,AGE,PTGENDER,PTEDUCAT,ADAS13,MMSE,"
    "Ventricles,Hippocampus,WholeBrain,Entorhinal,Fusiform,MidTemp,ICV"
)
REST = ",74.3,Male,16,12,28,30000,7000,1000000,3500,18000,19000,1500000"


def tadpole(folder, *rows: str, header: str = HEADER):
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    with initialize_config_module("conf", version_base="1.3"):
        data = compose("ingest", ["data=tadpole", f"data.path={folder}/t.csv"]).data
    return ingest(instantiate(data.reader, _convert_="all"), str(folder / "c"), "overwrite")


def ages(cohort) -> list[float]:
    return cohort.values[0, :, cohort.column("age")].round(2).tolist()


def test_a_last_visit_alone_is_as_old_as_in_the_whole_table(tmp_path):
    last = f"2,m60,2010-06-01,MCI,2{REST}"
    assert ages(tadpole(tmp_path, last)) == [79.3]
    assert ages(tadpole(tmp_path, f"2,bl,2005-06-01,MCI,2{REST}", last)) == [74.3, 79.3]
    assert ages(tadpole(tmp_path, f"2,m06,2005-12-01,MCI,2{REST}", last)) == [74.8, 79.3]


@pytest.mark.parametrize(("name", "cell"), [("Years_bl", "5.0"), ("Month_bl", "60"), ("EXAMDATE_bl", "2005-06-01")])
def test_what_the_table_says_of_the_baseline_counts(tmp_path, name, cell):
    cohort = tadpole(tmp_path, f"2,nv,2010-06-01,MCI,2{REST},{cell}", header=f"{HEADER},{name}")
    assert ages(cohort) == [pytest.approx(79.3, abs=0.01)]


def test_an_age_whose_moment_nobody_knows_is_missing(tmp_path):
    cohort = tadpole(tmp_path, f"2,nv,2010-06-01,MCI,2{REST}", f"3,bl,2010-06-01,MCI,2{REST}")
    known = dict(zip(cohort.subjects, cohort.observed[:, 0, cohort.column("age")].tolist(), strict=True))
    assert known == {"2": False, "3": True}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("2,bl,2005-09-08,MCI,2", "2,bl,2005-09-08,MCI,inf"), "no whole number"),
        (("2,bl,2005-09-08,MCI,2", "2.7,bl,2005-09-08,MCI,2"), "no whole number"),
        ((",30000,", ",3_0,"), "a volume is not a number"),
    ],
)
def test_a_broken_number_is_one_line(tmp_path, change, complaint):
    row = f"2,bl,2005-09-08,MCI,2{REST}"
    with pytest.raises(UserError, match=complaint):
        tadpole(tmp_path, row.replace(*change), f"3,bl,2005-09-08,MCI,2{REST}")


def test_a_visit_eleven_years_after_its_code_is_named_and_one_out_of_order_is_too(tmp_path):
    rows = [f"2,bl,2005-09-08,MCI,2{REST}", f"2,m06,2006-03-10,MCI,2{REST}", f"2,m12,2016-09-12,MCI,2{REST}"]
    (said,) = warnings(tadpole(tmp_path, *rows))
    assert "'m12' of subject '2'" in said
    said = warnings(tadpole(tmp_path, rows[0], rows[1], rows[2].replace("2016", "2005")))
    assert "visits out of order" in said[0]


def test_an_age_may_name_the_column_of_its_moment(tmp_path):
    age = {"baseline_plus_elapsed": True, "per_year": 1, "origin": "enrolled", "units": "years"}
    text = "subject,time,score,age,enrolled\na,2010-01-01,1,70,2008-01-01\na,2011-01-01,1,70,\nb,2010-01-01,1,60,\n"
    dates = {"column": "time", "units": "date"}
    cohort = read(tmp_path, text, time=dates, variables={**SCORE, "age": age})
    np.testing.assert_allclose(cohort.values[0, :, cohort.column("age")], [72, 73], atol=0.01)
    assert not cohort.observed[1, 0, cohort.column("age")]
    with pytest.raises(UserError, match="column 'enroled' is unknown; did you mean 'enrolled'"):
        read(tmp_path, text, time=dates, variables={**SCORE, "age": age | {"origin": "enroled"}})
    with pytest.raises(UserError, match=r"origin of age .* differs between"):
        read(
            tmp_path,
            text.replace("70,\n", "70,2009-01-01\n"),
            time=dates,
            variables={**SCORE, "age": age},
        )
