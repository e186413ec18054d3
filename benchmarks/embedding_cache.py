"""Cost of a training step with frozen encoders: cached embeddings, re-encoded scans, and encoders trained jointly.

    python -m benchmarks.embedding_cache

Prints one JSON line; the ratio is the time with re-encoding over the time with the cache.
"""

import json
import tempfile
import time
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from framework.data.batches.batch import Loader
from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import write
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.forecast.deep.embeddings import Embeddings
from framework.forecast.deep.forecaster import Deep
from framework.nn.encoders.base import Encoder
from framework.nn.model import encoders
from framework.train.step import Program

ENCODERS, SUBJECTS, VISITS, SIDE, STEPS = ("autoencoder", "plain3d", "resnet10"), 8, 4, 32, 10


class StopGradient(Encoder):
    """An encoder whose output has no gradient."""

    def __init__(self, encoder: partial, *, grid: tuple[int, ...], rngs: nnx.Rngs):
        self.encoder = encoder(grid=grid, rngs=rngs)
        self.out_features = self.encoder.out_features

    def __call__(self, voxels):
        return jax.lax.stop_gradient(self.encoder(voxels))


def examples_in(folder: str) -> Examples:
    """Write subjects with a scan and a score at each visit; return their examples."""
    rng = np.random.default_rng(0)

    def subject(i: int) -> Subject:
        scans = rng.random((VISITS, SIDE, SIDE, SIDE, 1), np.float32)
        visits = [Visit(f"v{j}", float(j), {"score": float(j)}, {"t1": Scan(scan)}) for j, scan in enumerate(scans)]
        return Subject(f"s{i}", tuple(visits))

    variables = (Variable("score", ("input", "target"), "points"),)
    schema = Schema(variables, modalities=(Modality("t1", (SIDE, SIDE, SIDE), (1.0, 1.0, 1.0)),))
    cohort = write(folder, schema, map(subject, range(SUBJECTS)))
    return Examples(cohort, layout(schema, ["score"]))


def seconds(recipe: Deep, program: Program, examples: Examples, prepare) -> float:
    """Median seconds of a step, with building its batch."""
    loader, rows = Loader(examples, prepare=prepare), range(SUBJECTS)
    size = loader.size(SUBJECTS, rows)
    members, statistics = program.initial(jax.random.split(jax.random.key(0), 1))
    dynamics = jax.tree.map(lambda x: x[None], recipe.training.dynamic(1))
    step, taken = jax.jit(program.advance), []
    for _ in range(2 + STEPS):
        start = time.perf_counter()
        batch = jax.tree.map(lambda x: np.asarray(x)[None, None], loader.batch(rows, size, examples.train_queries))
        members, _ = jax.block_until_ready(step(members, jnp.ones(1, bool), statistics, dynamics, {}, batch))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[2:]))


def case(name: str, examples: Examples) -> dict:
    """Milliseconds per step of one encoder in all three ways."""
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("forecast", ["model=gru", f"model/encoder={name}", "model.augment=null", "data.store=none"])
    recipe = instantiate(config.model, _convert_="all")
    cache = Embeddings(encoders(recipe.encoder, examples.layout, nnx.Rngs(0)))
    short = replace(examples, layout=cache.layout(examples.layout))
    reencoding = replace(recipe, encoder=partial(StopGradient, recipe.encoder))
    frozen = replace(recipe, frozen=True, pretrained="none")
    times = {
        "joint": seconds(recipe, recipe._program(examples.layout), examples, None),
        "reencoded": seconds(recipe, reencoding._program(examples.layout), examples, None),
        "cached": seconds(recipe, frozen._program(short.layout), short, cache.of),
    }
    ratio = times["reencoded"] / times["cached"]
    return {f"{name}_ms": round(1e3 * value, 2) for name, value in times.items()} | {"ratio": ratio}


def main() -> None:
    """Measure, and print a line per encoder."""
    with tempfile.TemporaryDirectory() as folder:
        examples = examples_in(f"{folder}/cohort")
        cases = {name: case(name, examples) for name in ENCODERS}
    for name, times in cases.items():
        print(name, *(f"{label} {value:.1f}" for label, value in times.items()))
    worst = min(times["ratio"] for times in cases.values())
    device = jax.devices()[0].device_kind
    print(json.dumps({"benchmark": "embedding_cache", "device": device, "ratio": round(worst, 2), "cases": cases}))


if __name__ == "__main__":
    main()
