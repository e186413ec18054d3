"""Fitted arrays come back as they were, or in one line they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.errors import UserError
from framework.train.array_io import load_arrays, save_arrays


def state(value: float = 0.0, size: int = 3) -> dict:
    counts = (jnp.arange(4), jnp.zeros((0, 2)), jnp.array(value > 1))  # a part may be empty
    return {"weights": jnp.full((size, 2), value), "counts": counts}


def same(found, expected) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_arrays_come_back_and_replace_what_was_there(tmp_path):
    save_arrays(tmp_path / "model", state(value=1.0))
    save_arrays(tmp_path / "model", state(value=2.0))
    same(load_arrays(tmp_path / "model", state()), state(value=2.0))


@pytest.mark.parametrize("like", [state(size=4), {"weights": jnp.zeros((3, 2))}, {**state(), "more": jnp.zeros(2)}])
def test_arrays_of_another_shape_are_refused(tmp_path, like):
    """A model of another width, with fewer parts, or with more of them."""
    save_arrays(tmp_path / "model", state())
    with pytest.raises(UserError, match="cannot be read") as told:
        load_arrays(tmp_path / "model", like)
    assert "\n" not in str(told.value)


def test_absent_arrays_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no fitted model at"):
        load_arrays(tmp_path / "model", state())


def test_a_damaged_model_is_one_line(tmp_path):
    save_arrays(tmp_path / "model", state())
    [file] = (tmp_path / "model").iterdir()
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UserError, match="cannot be read") as told:
        load_arrays(tmp_path / "model", state())
    assert "\n" not in str(told.value)


def test_weights_that_are_no_numbers_are_refused_unless_they_may_be(tmp_path):
    """Thresholds of trees may be infinite; a network's weights may not."""
    for value in (np.nan, np.inf):
        save_arrays(tmp_path / "model", state(value=value))
        with pytest.raises(UserError, match="holds weights that are no finite numbers; fit it again"):
            load_arrays(tmp_path / "model", state())
        same(load_arrays(tmp_path / "model", state(), finite=False), state(value=value))
