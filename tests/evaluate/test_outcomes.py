import json
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from framework.errors import UserError
from framework.evaluate import outcomes as kept
from framework.types import Categorical, Event, Number


def same(a, b) -> bool:
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    return a == b


@pytest.mark.filterwarnings("error")
def test_what_is_written_is_read(study, tmp_path):
    before = study()
    odd = replace(before[0].target, name="a/b %41 ü", units="%ICV")
    before[0] = replace(before[0], target=odd, subjects=("<script>", "=1+1", *before[0].subjects[2:]))
    kept.write(before, tmp_path)
    kept.write(before, tmp_path)  # a second time is as good
    after = kept.read(tmp_path)
    assert len(after) == len(before)
    for one, other in zip(before, after, strict=True):
        for field in fields(kept.Outcomes):
            assert same(getattr(one, field.name), getattr(other, field.name)), field.name


@pytest.mark.parametrize(
    ("target", "written"),
    [
        (Number("volume", 2, "mL", bounds=(0.0, None), scale="log"), {"levels": [], "horizons": [], "ordered": False}),
        (Categorical("stage", 1, ("a", "b"), True, "b", seen=False), {"units": "1", "bounds": [None, None]}),
        (Event("death", (1.0, 2.5)), {"index": -(2**31), "units": "years", "levels": [], "seen": False}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_target_of_any_kind_is_read_as_it_was_written(study, tmp_path, target, written):
    """Also as earlier versions wrote it, with the fields of the other kinds beside its own."""
    one = study()[0]
    count = len(kept.answer_names(target))
    forecasts = {model: np.resize(told, (*told.shape[:2], count)) for model, told in one.forecasts.items()}
    shape = (len(one.truth), 2) if isinstance(target, Event) else len(one.truth)
    before = replace(one, target=target, truth=np.resize([0.0, 1.0], shape), forecasts=forecasts)
    kept.write([before], tmp_path)
    after = kept.read(tmp_path)[0]
    assert after.target == target
    data = before.dataset()
    earlier = json.loads(json.dumps(written | data.attrs["target"]))
    assert kept.Outcomes.from_dataset(data.assign_attrs(target=earlier)).target == target


def test_the_table_says_the_same_in_words(study, tmp_path):
    mmse, cdr, _ = study()
    kept.write([mmse, cdr], tmp_path)
    table = pd.read_csv(tmp_path / "forecasts" / "MMSE.csv")
    assert list(table)[:8] == ["model", "repeat", "fold", "subject", "origin", "origin_time", "time", "truth"]
    assert list(table)[8:] == ["q05", "q25", "q50", "q75", "q95", "beyond_follow_up"]
    slope = table[(table.model == "slope") & (table["repeat"] == 3)]
    assert np.array_equal(slope.filter(regex="^q").to_numpy(), mmse.forecasts["slope"][3])
    assert list(slope.subject) == [mmse.subjects[i] for i in mmse.subject]
    assert np.array_equal(slope.fold, mmse.fold[3])
    table = pd.read_csv(tmp_path / "forecasts" / "CDR.csv", dtype={"truth": str})
    assert list(table)[8:] == ["p_0.0", "p_0.5", "p_1.0", "p_2.0", "beyond_follow_up"]
    assert list(table.truth[: len(cdr.truth)]) == [cdr.target.levels[int(i)] for i in cdr.truth]


def test_a_folder_without_forecasts(tmp_path):
    with pytest.raises(UserError, match=r"no forecasts\.zarr"):
        kept.read(tmp_path)


def test_damaged_forecasts_are_refused_in_one_line(study, tmp_path):
    kept.write(study(), tmp_path)
    chunk = next(one for one in (tmp_path / "forecasts.zarr").rglob("*") if one.is_file() and one.parent.name == "c")
    chunk.write_bytes(b"\x80\x04nothing that was written")
    with pytest.raises(UserError, match="cannot be read") as told:
        kept.read(tmp_path)
    assert "\n" not in str(told.value)
