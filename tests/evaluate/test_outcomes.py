from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from framework.errors import UserError
from framework.evaluate import outcomes as kept


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
