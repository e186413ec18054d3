"""The same gradient, whole or in parts; the same encoders, in less memory."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from framework.data.batches.batch import Loader
from framework.data.queries.layout import layout
from framework.errors import UserError
from framework.train.gradients import Accumulated
from framework.train.memory import MemoryOptions
from tests.cohorts import examples
from tests.contracts.recipes import forecaster

pytestmark = pytest.mark.long

KEYS = jax.random.split(jax.random.key(0), 1)
ROWS, PARTS = [3, 0, 7, 5, 1, 2], ([3, 0], [7, 5], [1, 2])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Of one modality: another is another encoder to compile."""
    made = examples(tmp_path_factory.mktemp("cohort") / "c")
    return replace(made, layout=layout(made.cohort.schema, ["score", "stage"], ["t1"]))


@pytest.fixture(scope="module")
def recipe():
    """A CNN and a GRU; gradients as they come, for their clipping hides their length."""
    return forecaster(
        "cnn_gru",
        "model.encoder.width=4",
        "training.optimizer.max_grad_norm=1e9",
        "training.dropout=0.0",
        "model.augment=null",
    )


def stepped(made, recipe, batches, **changes):
    """Loss and members after one step of one member."""
    program = replace(recipe._program(made.layout), **changes)
    members, *others = arguments(made, recipe, program)
    rng = np.random.default_rng(0)  # as it starts, the outputs hear nothing of the encoders
    moved = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), members.params)
    members, loss = jax.jit(program.advance)(replace(members, params=moved), *others, batches)
    return float(loss[0, 0]), members


def arguments(made, recipe, program):
    """Of a step of one fresh member, all but the batches."""
    members, statistics = program.initial(KEYS)
    dynamics = jax.tree.map(lambda x: x[None], recipe.training.dynamic(len(made.layout.targets)))
    loader = Loader(made)
    tables = loader.tables({}, loader.size(len(ROWS), ROWS, packed=True))
    return members, np.ones(1, bool), statistics, dynamics, tables


def stacked(batches):
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


@pytest.fixture(scope="module")
def batch(made):
    loader = Loader(made)
    whole = loader.drawn(ROWS, loader.size(len(ROWS), ROWS))
    return jax.tree.map(lambda x: x[None, None], whole)


@pytest.fixture(scope="module")
def plain(made, recipe, batch):
    return stepped(made, recipe, batch)


def close(one, other, rtol=1e-4) -> None:
    """Adam's first momenta are a tenth of the gradients, whose rounding is that of their sums; each is there."""
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(other.momenta))
    for a, b in zip(jax.tree.leaves(one.momenta), jax.tree.leaves(other.momenta), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.abs(b).max(initial=0)))


def test_parts_add_up_to_the_whole(made, recipe, plain):
    """Though they hold unlike numbers of answers, each answer weighs as it does in the whole."""
    loader = Loader(made)
    size = loader.size(2, ROWS)
    each = [loader.drawn(rows, size) for rows in PARTS]
    parts, tables = stacked(each), arguments(made, recipe, recipe._program(made.layout))[-1]
    counts = np.stack([one.answers(tables) for one in each], axis=1)
    assert any(len(set(count.tolist())) > 1 for count in counts), "unlike parts, for this to say anything"
    loss, members = stepped(made, recipe, jax.tree.map(lambda x: x[None, None], parts), gradients=Accumulated(3))
    assert loss == pytest.approx(plain[0], rel=1e-5)
    close(members, plain[1])


@pytest.mark.parametrize("remat_chunk", [1, 3, 99])
def test_activations_made_again_are_the_same(made, recipe, batch, plain, remat_chunk):
    loss, members = stepped(made, recipe, batch, memory=MemoryOptions("float32", remat_chunk))
    assert loss == pytest.approx(plain[0], rel=1e-5)
    close(members, plain[1])


def test_encoders_in_fewer_bits_leave_parameters_and_loss_in_float32(made, recipe, batch, plain):
    loss, members = stepped(made, recipe, batch, memory=MemoryOptions("bfloat16", None))
    assert loss != plain[0]
    assert loss == pytest.approx(plain[0], rel=2e-2)
    assert jax.tree.structure(members) == jax.tree.structure(plain[1])
    for one, other in zip(jax.tree.leaves(members.params), jax.tree.leaves(plain[1].params), strict=True):
        assert one.dtype == other.dtype == np.float32


def test_the_encoders_compute_in_the_type_they_are_told(made, recipe, batch):
    def types(memory) -> set[str]:
        program = replace(recipe._program(made.layout), memory=memory)
        traced = jax.make_jaxpr(program.advance)(*arguments(made, recipe, program), batch)
        return {kind for kind in ("f32", "bf16") if f"{kind}[" in str(traced)}

    assert types(MemoryOptions("float32", None)) == {"f32"}
    assert types(MemoryOptions("bfloat16", None)) == {"f32", "bf16"}


@pytest.mark.parametrize(("compute_dtype", "remat_chunk"), [("float16", None), ("float32", 0)])
def test_memory_options_that_cannot_be_is_refused(compute_dtype, remat_chunk):
    with pytest.raises(UserError, match=r"training\.memory"):
        MemoryOptions(compute_dtype, remat_chunk)
