"""What is saved comes back as it was, or the user is told in one line why not."""

import os
import re
import subprocess
import sys
from contextlib import closing
from itertools import islice
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.errors import UserError
from framework.train.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]


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


def reader(taken: int = 0):
    made = iter(grain.MapDataset.range(20).to_iter_dataset())
    list(islice(made, taken))
    return made


def saved(folder, *steps: int) -> None:
    kept = Checkpoints(folder)
    for step in steps:
        kept.save(step, state(value=float(step)), reader(step))
    kept.close()


def resumed(folder, like=None):
    kept, place = Checkpoints(folder), reader()
    try:
        return kept.resume(state() if like is None else like, place), place
    finally:
        kept.close()


def test_the_newest_step_comes_back_bit_equal_keys_reader_and_all(tmp_path):
    assert resumed(tmp_path / "run")[0] is None
    saved(tmp_path / "run", 2, 5, 9)
    found, place = resumed(tmp_path / "run")
    assert found is not None
    assert found[0] == 9
    same(found[1], state(value=9.0))
    assert next(place) == 9
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["5.npz", "9.npz"], "the last two are kept"


def test_what_was_saved_is_not_what_came_after(tmp_path):
    """Saving copies: a step that overwrites the saved arrays in place leaves the checkpoint alone."""
    kept, now = Checkpoints(tmp_path / "run"), {"weights": jnp.ones(10**6)}
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    kept.save(1, now, reader())
    for _ in range(20):
        now = step(now)
    kept.close()
    found, _ = resumed(tmp_path / "run", now)
    assert found is not None
    np.testing.assert_array_equal(found[1]["weights"], 1)


def test_what_a_killed_write_left_is_no_checkpoint(tmp_path):
    """A write bears another name until it is whole; the same step can be written anew."""
    saved(tmp_path / "run", 3)
    (tmp_path / "run" / "4.npz.new").write_bytes(b"PK")
    found, _ = resumed(tmp_path / "run")
    assert found is not None
    assert found[0] == 3
    saved(tmp_path / "run", 4)
    found, _ = resumed(tmp_path / "run")
    assert found is not None
    assert found[0] == 4


def test_a_save_is_due_after_half_of_what_may_be_lost(tmp_path):
    by_steps, by_time = Checkpoints(tmp_path / "a", steps=6), Checkpoints(tmp_path / "b", seconds=0.0)
    assert [step for step in range(1, 7) if by_steps.due(step)] == [3, 4, 5, 6]
    by_steps.save(4, state(), reader())
    assert [step for step in range(5, 9) if by_steps.due(step)] == [7, 8]
    assert by_time.due(1)
    assert not Checkpoints(tmp_path / "c").due(10**6)
    by_steps.close()
    by_time.close()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, damage):
    saved(tmp_path / "run", 3)
    file = tmp_path / "run" / "3.npz"
    held = bytearray(file.read_bytes())
    place = held.index(np.float32(3).tobytes() * 6)
    held[place] ^= 1
    file.write_bytes({"cut": held[:-40], "flipped": held, "empty": b""}[damage])
    with pytest.raises(UserError, match="step 3 cannot be read") as told:
        resumed(tmp_path / "run")
    assert "\n" not in str(told.value)


def test_states_that_changed_places_are_refused(tmp_path):
    saved(tmp_path / "run", 3, 5)
    (tmp_path / "run" / "3.npz").replace(tmp_path / "run" / "5.npz")
    with pytest.raises(UserError, match=r"step 5 cannot be read .it is not what was saved then"):
        resumed(tmp_path / "run")


def test_arrays_put_in_with_checksums_that_hold_are_refused(tmp_path):
    saved(tmp_path / "run", 3)
    file = tmp_path / "run" / "3.npz"
    with np.load(file) as held:
        arrays = dict(held)
    np.savez(file, **arrays | {"arr_4": np.full_like(arrays["arr_4"], 2)})
    with pytest.raises(UserError, match="it is not what was saved then"):
        resumed(tmp_path / "run")


def test_a_checkpoint_of_other_shapes_is_one_line(tmp_path):
    saved(tmp_path / "run", 3)
    with pytest.raises(UserError, match="step 3 cannot be read"):
        resumed(tmp_path / "run", state(size=4))


FULL = """
import resource, sys
from pathlib import Path
import jax.numpy as jnp
import numpy as np
from framework.errors import UserError
from framework.train.checkpoint import Checkpoints
from tests.train.test_checkpoint import reader, state

kept = Checkpoints(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
noise = np.random.default_rng(0).normal(size=10**5).astype(np.float32)
try:
    try:
        kept.save(4, {**state(), "more": jnp.asarray(noise)}, reader(4))
    finally:
        kept.close()
except UserError as error:
    print(error, file=sys.stderr)
"""


def test_a_full_disk_is_one_line_and_the_last_checkpoint_survives(tmp_path):
    """As where the disk is full, the system lets no file grow; it is met in a thread of its own."""
    saved(tmp_path / "run", 3)
    ended = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "run"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    told = "no checkpoint can be written to .*/run \\(File too large\\); make room there, .*"
    assert re.fullmatch(told, ended.stderr.rstrip("\n")), ended.stderr[-2000:]
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["3.npz"], "nothing half-written stays"
    found, place = resumed(tmp_path / "run")
    assert found is not None
    assert found[0] == 3
    same(found[1], state(value=3.0))
    assert next(place) == 3


def test_a_fault_of_ours_while_writing_is_none_of_the_disk(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises(ZeroDivisionError):
        saved(tmp_path / "run", 3)


def test_what_numpy_does_not_know_comes_back_as_it_was(tmp_path):
    own = {"half": jnp.arange(3, dtype=jnp.bfloat16), "host": np.arange(3, dtype=np.float64)}
    kept = Checkpoints(tmp_path / "run")
    kept.save(1, own)
    kept.close()
    found = Checkpoints(tmp_path / "run").resume(jax.tree.map(lambda x: 0 * x, own))
    assert found is not None
    same(found[1], own)
    assert isinstance(found[1]["host"], np.ndarray)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    """A file where the folder should be; as root, nothing is read-only."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"no checkpoint can be written to .*file/run") as told:
        Checkpoints(tmp_path / "file" / "run")
    assert "\n" not in str(told.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_turned_read_only_is_one_line(tmp_path):
    saved(tmp_path / "run", 3)
    kept = Checkpoints(tmp_path / "run")
    (tmp_path / "run").chmod(0o555)
    with pytest.raises(UserError, match="no checkpoint can be written to"), closing(kept):
        kept.save(4, state(), reader(4))
    (tmp_path / "run").chmod(0o755)
    assert resumed(tmp_path / "run")[0] is not None
