"""The order of a file's rows says nothing: the cohort and its forecasts are the same under any permutation."""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.data.cohort.store import Cohort
from framework.data.ingest.base import ingest
from framework.data.ingest.bids import Bids
from framework.data.ingest.nifti import Nifti
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import KFold
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.tadpole.reader import Tadpole
from tests.cases.tables import read, table
from tests.contracts.recipes import forecaster
from tests.tadpole import tables as tadpole

HEADER = "subject,time,score,sex"
ROWS = [
    f"{i},{t},{10 + 3 * (i % 4) - t + 0.1 * ((7 * i + t) % 5):.1f},{'FM'[i % 2]}"
    for i in range(1, 13)
    for t in range(3)
]
STATIC = {"sex": {"levels": ["F", "M"]}}
GRID = {"shape": [6, 6, 6], "spacing": [10, 10, 10]}
permutations = st.permutations(range(len(ROWS)))


def cohort(folder: Path, rows: list[str]) -> Cohort:
    return read(folder, "\n".join([HEADER, *rows, ""]), static=STATIC)


def forecasts(made: Cohort, name: str) -> list[dict]:
    """Forecasts of the subjects tested, fold by fold."""
    study = Examples(made, layout(made.schema, ["score"]))
    splits = KFold(3, 0.2, 0, 0).splits(made)
    fitted = forecaster(name).fit_many(FitRequest(study, splits, jax.random.split(jax.random.key(0), len(splits))))
    return [
        answers(one, study, np.flatnonzero(s.test), study.eval_queries) for one, s in zip(fitted, splits, strict=True)
    ]


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    made = cohort(tmp_path_factory.mktemp("once"), ROWS)
    return made, {name: forecasts(made, name) for name in ("slope", "ridge")}


def test_subjects_come_in_order_of_their_ids(tmp_path):
    found = cohort(tmp_path, ROWS[::-1])
    assert found.subjects == tuple(str(i) for i in range(1, 13))
    assert read(tmp_path, "subject,time,score\nb,0,1\na 2,0,3\n10,0,2\na,0,3\n9,0,1\n").subjects == (
        "9",
        "10",
        "a",
        "a 2",
        "b",
    )


@given(order=permutations)
@settings(max_examples=6, deadline=None, derandomize=True)
def test_a_table_with_its_rows_permuted_is_the_same_cohort(tmp_path_factory, once, order):
    assert cohort(tmp_path_factory.mktemp("again"), [ROWS[i] for i in order]).fingerprint == once[0].fingerprint


def test_a_table_with_its_rows_permuted_is_forecast_the_same(tmp_path, once):
    order = np.random.default_rng(0).permutation(len(ROWS))
    made = cohort(tmp_path, [ROWS[i] for i in order])
    for name, expected in once[1].items():
        for one, other in zip(forecasts(made, name), expected, strict=True):
            np.testing.assert_array_equal(one["score"], other["score"])


AGE = {"column": "AGE", "baseline_plus_elapsed": True, "per_year": 1, "origin": "EXAMDATE_bl", "roles": ["future"]}


@pytest.mark.parametrize("seed", [1, 2])
def test_tadpole_with_its_rows_permuted_is_the_same_cohort(tmp_path, seed):
    """With two rows of one day that are as full as each other, and later visits alone to tell when the baseline was."""
    tadpole.write(tmp_path, subjects=8)
    file = tmp_path / "TADPOLE_D1_D2.csv"
    rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    rows = rows[rows["VISCODE"] != "bl"].drop(columns="DXCHANGE").assign(DX="")
    twin = rows[rows["VISCODE"] == "m12"].iloc[[0]].assign(VISCODE="m13", MMSE="11")
    rows = pd.concat([rows, twin, twin.assign(VISCODE="m14", MMSE="12")])
    rows.loc[rows["VISCODE"] == "m24", "Month_bl"] = "22"
    found = []
    for name, order in (("one", rows), ("other", rows.sample(frac=1, random_state=seed)), ("last", rows[::-1])):
        order.to_csv(file, index=False)
        found.append(ingest(Tadpole(str(file), {"MMSE": {}, "age": AGE}, {}), str(tmp_path / name)))
    assert found[0].subjects == tuple(sorted(found[0].subjects, key=int))
    assert {one.fingerprint for one in found} == {found[0].fingerprint}


def test_scans_named_by_a_permuted_table_are_the_same_cohort(tmp_path, save):
    rows = ["b,1,0,b.nii,3", "b,2,1,,4", "a,1,0,a.nii,1"]
    for seed, name in enumerate(("a.nii", "b.nii")):
        save(tmp_path / name, seed)
    found = []
    for name, order in (("one", rows), ("other", rows[::-1])):
        visits = table(tmp_path, "\n".join(["subject,visit,time,T1w,score", *order, ""]), visit="visit")
        found.append(ingest(Nifti(str(tmp_path), visits, {"T1w": GRID}), str(tmp_path / name)))
    assert found[0].fingerprint == found[1].fingerprint


def test_participants_and_sessions_in_any_order_are_the_same_cohort(bids_folder, tmp_path):
    def made(store: str) -> Cohort:
        reader = Bids(
            str(bids_folder),
            {"T1w": GRID},
            {"column": "days_since_first", "units": "days"},
            {"edss": {}},
            {"age": {}},
        )
        return ingest(reader, str(tmp_path / store))

    before = made("one")
    for file in bids_folder.rglob("*.tsv"):
        header, *rows = file.read_text().splitlines()
        file.write_text("\n".join([header, *rows[::-1], ""]))
    assert made("other").fingerprint == before.fingerprint
