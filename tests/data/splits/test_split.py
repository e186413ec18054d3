"""Splits are by subject, disjoint, repeatable, and know nothing of the data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.data.splits.split import FromFile, KFold, Split
from framework.errors import UserError
from tests.cohorts import named

NAMES = tuple(f"s{i}" for i in range(24))
COHORT = named(NAMES)


def masks(splits: list[Split]) -> np.ndarray:
    """(fold, part, subject)"""
    return np.array([(s.train, s.validation, s.test) for s in splits])


def folds_file(path, rows, header="subject,fold", share=0.25):
    path.write_text("\n".join([header, *rows]) + "\n")
    return FromFile(str(path), share, 0, 0)


@given(st.integers(4, 60), st.integers(2, 10), st.floats(0, 0.5), st.integers(0, 2**31), st.integers(0, 9))
def test_folds_partition_the_subjects(count, folds, share, seed, repeat):
    if count < 2 * folds:
        return
    names = tuple(f"s{i}" for i in range(count))
    parts = masks(KFold(folds, share, 0, seed).splits(named(names), repeat))
    assert (parts.sum(1) == 1).all(), "each subject is in exactly one part of every split"
    assert (parts[:, 2].sum(0) == 1).all(), "each subject is tested once"
    sizes = parts[:, 2].sum(1)
    assert sizes.max() - sizes.min() <= 1
    expected = [max(1, round(share * (count - size))) if share else 0 for size in sizes]
    assert parts[:, 1].sum(1).tolist() == expected


def test_repeatable_reshuffled_by_repeats_and_by_seeds():
    first = masks(KFold(4, 0.2, 0, 3).splits(COHORT))
    np.testing.assert_array_equal(first, masks(KFold(4, 0.2, 0, 3).splits(COHORT)))
    for other in (KFold(4, 0.2, 0, 3).splits(COHORT, 1), KFold(4, 0.2, 0, 4).splits(COHORT)):
        assert (first[:, 2] != masks(other)[:, 2]).any()


def test_the_same_whatever_the_data():
    one, other = (masks(KFold(4, 0.2, 0, 3).splits(named(names))) for names in (NAMES, NAMES[::-1]))
    np.testing.assert_array_equal(one, other)


def test_fold_is_the_one_that_a_single_forecast_tests():
    splits = KFold(4, 0.2, 2, 0).splits(COHORT)
    np.testing.assert_array_equal(KFold(4, 0.2, 2, 0).one(COHORT).test, splits[2].test)


def test_without_validation_nobody_validates():
    assert not masks(KFold(4, 0.0, 0, 0).splits(COHORT))[:, 1].any()


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: KFold(1, 0.1, 0, 0), "expected 2 or more"),
        (lambda: KFold(5, 0.1, 0, 0).splits(named(NAMES[:4])), "4 subjects cannot make 5 folds"),
        (lambda: KFold(2, 0.1, 0, 0).splits(named(NAMES[:2])), "no subject is left for train"),
        (lambda: KFold(2, 1.0, 0, 0).splits(COHORT), "expected a share from 0 to below 1"),
        (lambda: KFold(2, -0.1, 0, 0).splits(COHORT), "expected a share from 0 to below 1"),
        (lambda: KFold(3, 0.1, 3, 0).one(COHORT), "expected 0 to 2"),
        (lambda: Split(np.array([True, True]), np.array([False, False]), np.array([True, False])), "1 subjects are in"),
    ],
)
def test_what_cannot_be_is_one_line(make, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        make()
    assert "\n" not in str(told.value)


def test_folds_of_a_file_are_those_it_names(tmp_path):
    fold = {name: str(i % 11) for i, name in enumerate(NAMES)}
    splitter = folds_file(tmp_path / "f.csv", [*(f"{k},{v}" for k, v in fold.items()), "stranger,3"])
    splits = splitter.splits(COHORT)
    assert len(splits) == 11
    for k, split in enumerate(splits):  # in order of number: fold 10 is the last, not the third
        assert [NAMES[i] for i in np.flatnonzero(split.test)] == [name for name in NAMES if fold[name] == str(k)]
    assert (masks(splits).sum(1) == 1).all()
    np.testing.assert_array_equal(masks(splits), masks(splitter.splits(COHORT)))
    again = masks(splitter.splits(COHORT, repeat=1))
    np.testing.assert_array_equal(masks(splits)[:, 2], again[:, 2])
    assert (masks(splits)[:, 1] != again[:, 1]).any()


def test_an_id_that_looks_like_a_missing_value_is_an_id(tmp_path):
    splits = folds_file(tmp_path / "f.csv", ["NA,a", "None,a", "007,b"], share=0.0).splits(named(["NA", "None", "007"]))
    assert splits[1].test.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (["a,0", "b,1", "a,1"], "subject 'a' is in two folds"),
        (["a,0"], "no fold for subject 'b'"),
        (["a,0", "b,0"], "the one fold"),
        (["a,0", "b,"], "lacks its subject or its fold"),
        (["a,0", "b,1,2"], "3 cells"),
        ([], "no fold for subject 'a'"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path, rows, complaint):
    with pytest.raises(UserError, match=complaint) as told:
        folds_file(tmp_path / "f.csv", rows).splits(named(["a", "b"]))
    assert "\n" not in str(told.value)


def test_a_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "folder.csv").mkdir()
    other = folds_file(tmp_path / "other.csv", ["a,0"], header="id,fold")
    paths = [str(tmp_path / name) for name in ("absent.csv", "binary.csv", "folder.csv")]
    for splitter in [*(FromFile(path, 0.1, 0, 0) for path in paths), other]:
        with pytest.raises(UserError) as told:
            splitter.splits(named(["a", "b"]))
        assert "\n" not in str(told.value)
