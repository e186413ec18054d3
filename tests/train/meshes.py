"""A program that trains small forecasters on meshes of several devices, which a test process cannot have itself.

`python -m tests.train.meshes <folder> <forecaster>,<mesh>...` keeps parameters (and of gru forecasts) of each as
`<forecaster>,<mesh>.npz` in the folder, and what `facts` says of the mesh as `<mesh>.json`. `--hosts <address> <number>`
makes it one of two processes that share the work; then it is interrupted half way and goes on from its checkpoint.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from framework.data.batches.batch import Loader
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.deep.forecaster import Deep, FittedDeep
from framework.forecast.predict import answers
from framework.train.mesh import Hosts, SingleDevice, is_first
from tests.cohorts import small
from tests.contracts.recipes import forecaster

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 300  # s
STEPS, HALF = 20, 10
SETTINGS = (
    "training.batch=8",
    f"training.steps={STEPS}",
    f"training.eval_every={HALF}",
    "training.dropout=0.2",
    "training.checkpoint_seconds=0.0",
)
SMALL = {
    "gru": ("model.head.cell.features=8",),
    "cnn_gru": (
        "model.head.cell.features=8",
        "model.encoder.width=8",
        "model.encoder.out_features=8",
        "model.augment=null",
    ),
}


def start(devices: int, *words: str) -> subprocess.Popen:
    """This program in a process of its own, on a CPU cut into so many devices, with its small programs kept."""
    flags = {
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-m", "tests.train.meshes", *words]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | flags, text=True, stderr=subprocess.PIPE)


def end(*processes: subprocess.Popen) -> None:
    try:
        told = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, err in zip(processes, told, strict=True):
        assert process.returncode == 0, err[-3000:]


def apart(one: Path, other: Path) -> float:
    """The largest difference between the parameters of two runs."""
    with np.load(one) as first, np.load(other) as second:
        names = [name for name in first if name.startswith("parameter")]
        assert names
        assert set(first) == set(second)
        if "score" in first:
            np.testing.assert_allclose(first["score"], second["score"], rtol=1e-5)
        return max(float(np.abs(first[name] - second[name]).max(initial=0)) for name in names)


def learn(made: Examples, split: Split, folder: Path, name: str, mesh: str) -> None:
    learner = forecaster(name, *SETTINGS, *SMALL[name], f"mesh={mesh}")
    kept, key = (folder / "checkpoints" if jax.process_count() > 1 else None), jax.random.key(0)

    def stop(row: dict) -> None:
        if kept and row["step"] == STEPS:
            raise KeyboardInterrupt

    try:
        fitted = learner.fit(made, split, key, folder=kept, log=stop)
    except KeyboardInterrupt:
        steps: list[int] = []
        fitted = learner.fit(made, split, key, folder=kept, log=lambda row: steps.append(row["step"]))
        assert steps == [STEPS], "it began anew"
    assert isinstance(learner, Deep)
    assert isinstance(fitted, FittedDeep)
    if is_first():
        told: dict[str, Any] = (
            answers(fitted, made, range(len(made.subjects)), made.eval_queries) if name == "gru" else {}
        )
        arrays: dict[str, Any] = {f"parameter{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(fitted.params))}
        np.savez(folder / f"{name},{mesh}.npz", **told, **arrays)
        (folder / f"{mesh}.json").write_text(json.dumps(facts(learner.training.mesh, made, fitted.params)))


def facts(mesh: SingleDevice, made: Examples, params: PyTree) -> dict:
    """The share of a batch and of a state that one device holds, and what is said of a batch that cannot be shared."""
    loader = Loader(made)
    batch = loader.batch(range(8), loader.size(8, range(8)), made.train_queries)
    try:
        refused = mesh.check(12, 1)
    except UserError as error:
        refused = str(error)
    return {"batch": share(mesh.batch(batch)), "state": share(mesh.state(params)), "refused": refused}


def share(tree: PyTree) -> float:
    arrays = [jax.numpy.asarray(x) for x in jax.tree.leaves(tree)]
    return sum(x.addressable_shards[0].data.nbytes for x in arrays) / sum(x.nbytes for x in arrays)


def main(folder: Path, *recipes: str) -> None:
    cohort, order = small(folder / f"cohort{jax.process_index()}", 14), np.arange(14)
    made = Examples(cohort, layout(cohort.schema, ["score"], ["t1"]))
    split = Split(order < 10, (order >= 10) & (order < 12), order >= 12)
    for recipe in recipes:
        name, mesh = recipe.split(",")
        own = split if name == "gru" else replace(split, validation=np.zeros(14, bool))  # fewer programs to compile
        learn(made, own, folder, name, mesh)


if __name__ == "__main__":
    words = sys.argv[1:]
    if "--hosts" in words:
        at = words.index("--hosts")
        Hosts(words[at + 1], 2, int(words[at + 2])).join()
        words = words[:at]
    main(Path(words[0]), *words[1:])
