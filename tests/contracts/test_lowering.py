"""Every model's train step and validation can be lowered for GPU and TPU on a machine that has neither."""

import dataclasses

import jax
import numpy as np
import pytest

from framework.data.batches.batch import Loader
from framework.data.splits.split import Split
from framework.train.member_batches import Feed
from tests.cohorts import examples
from tests.contracts.recipes import forecaster, models

PLATFORMS = ("cuda", "tpu")
KEYS = jax.random.split(jax.random.key(0), 1)
DEEP = [name for name in models() if hasattr(forecaster(name), "training")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return examples(tmp_path_factory.mktemp("cohort") / "c")


def lowered(function, *args) -> str:
    """The program for all platforms, as text; shapes are enough."""
    return jax.jit(function).trace(*args).lower(lowering_platforms=PLATFORMS).as_text()


@pytest.mark.parametrize("name", DEEP)
def test_the_step_and_the_validation_lower_for_every_platform(made, name):
    recipe = forecaster(name)
    seen = dataclasses.replace(made, layout=recipe._reads(made.layout))
    program, order = recipe._program(seen.layout), np.arange(12)
    feed = Feed(Loader(seen), [Split(order < 7, (order >= 7) & (order < 9), order >= 9)], KEYS, 4, 2)
    chunks = feed.training(2)
    batches = next(chunks)
    chunks.close()
    members, statistics = jax.eval_shape(jax.vmap(program._one), KEYS)
    dynamics = jax.tree.map(lambda x: x[None], recipe.training.dynamic(len(seen.layout.targets)))
    step = lowered(program.advance, members, np.ones(1, bool), statistics, dynamics, feed.tables, batches)
    validation = next(iter(feed.validation()))
    losses = lowered(program.losses, members.params, statistics, dynamics, feed.tables, validation)
    for text in (step, losses):
        assert "func.func public @main" in text
    if seen.layout.modalities:
        assert "convolution" in step, "on an accelerator a convolution is the platform's own"
