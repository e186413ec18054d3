"""What is saved comes back as it was, or the user is told in one line why not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.errors import UserError
from framework.train.checkpoint import Checkpoints, load_arrays, save_arrays


def state(size: int = 3, value: float = 1.0) -> dict:
    return {
        "weights": jnp.full((size, 2), value),
        "step": jnp.asarray(7),
        "keys": jax.random.split(jax.random.key(5), 2),
        "lists": [jnp.arange(4) > 1, jnp.zeros(())],
        "empty": jnp.zeros((0, 3)),  # as the statistics of a cohort without static variables
    }


def data(leaf):
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def same(one, other) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(data(a), data(b))


def test_the_newest_round_comes_back_bit_equal_keys_and_all(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    assert kept.latest(state()) is None
    for round in (2, 5, 9):
        kept.save(round, state(value=float(round)))
    kept.close()
    again = Checkpoints(tmp_path / "run")
    found = again.latest(state())
    again.close()
    assert found is not None
    assert found[0] == 9
    same(found[1], state(value=9.0))
    assert sorted(int(folder.name) for folder in (tmp_path / "run").iterdir()) == [5, 9], "the last two are kept"


def test_what_was_saved_is_not_what_came_after(tmp_path):
    """Saving copies: a step that overwrites the saved arrays in place leaves the checkpoint alone."""
    kept, now = Checkpoints(tmp_path / "run"), {"weights": jnp.ones(10**6)}
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    kept.save(1, now)
    for _ in range(20):
        now = step(now)
    kept.close()
    again = Checkpoints(tmp_path / "run")
    found = again.latest(now)
    again.close()
    np.testing.assert_array_equal(found[1]["weights"], 1)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    kept = Checkpoints(tmp_path / "run")
    kept.save(3, state())
    kept.close()
    (tmp_path / "run" / "3" / "default" / "_METADATA").write_text("{")
    with pytest.raises(UserError, match="round 3 cannot be read") as told:
        Checkpoints(tmp_path / "run").latest(state())
    assert "\n" not in str(told.value)


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
    (tmp_path / "model" / "_METADATA").unlink()
    with pytest.raises(UserError, match="cannot be read") as told:
        load_arrays(tmp_path / "model", state())
    assert "\n" not in str(told.value)
