"""How long a training step of each sequence head takes, beside PyTorch's.

    python -m benchmarks.heads [--peers] [--compiled] [--cases "gru_d T=64" …]

Every head of conf/model/head at 8, 64 and 512 visits: 32 subjects, tokens of 16 numbers, 64 features, one question a
subject a month after its last visit, a squared error, Adam. Visits lie a month apart or so; minimalRNN, whose grid is a
month, takes one step a visit. With --peers, in turns with ours: GRU-D and minimalRNN as the loops over time that
PyTorch needs for them, and torch.nn.GRU on what our GRU is fed, on one thread and on all; with --compiled those also
under torch.compile, which takes minutes for long loops. The ratio is PyTorch's shortest time over ours.

Writes results/heads-<device>.json. The benchmark's ratio is that of the worst case with a peer at T = 64.
"""

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from jaxtyping import Array, Float, PyTree

import conf
from benchmarks import measure
from benchmarks.cases import RATE, Contenders
from benchmarks.networks import environment as environment  # the worker asks this module for it
from benchmarks.paired_timing import SHARED
from benchmarks.worker import Worker, entered
from framework.nn.layers import Dense
from framework.types import Query, Sequence

SUBJECTS, TOKEN, FEATURES = 32, 16, 64
LENGTHS = (8, 64, 512)
PEERS = ("gru", "gru_d", "minimal_rnn")
HEADS = sorted(file.stem for file in (Path(conf.__file__).parent / "model/head").glob("*.yaml"))
CASES = [f"{head} T={length}" for head in HEADS for length in LENGTHS]


class Regression(nnx.Module):
    """A head and a number forecast from its answer."""

    def __init__(self, name: str, *, rngs: nnx.Rngs):
        self.head = recipe(name)(d_in=TOKEN, rngs=rngs)
        self.dense = Dense(self.head.out_features, 1, rngs=rngs)

    def __call__(self, sequence: Sequence, query: Query) -> Float[Array, " b"]:
        return self.dense(self.head(sequence, query))[:, 0, 0]


def recipe(name: str) -> Callable[..., Any]:
    """The head as its YAML says, but for its size."""
    with initialize_config_module("conf", version_base="1.3"):
        made = compose("forecast", ["model=deep", f"model/head={name}"]).model.head
    part = made.cell if "cell" in made else made
    part.features = FEATURES
    if "limit" in part:
        part.limit = 1
    return instantiate(made, _convert_="all")


def given(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, which of their numbers were observed (70%), times in years, and what is to be forecast."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SUBJECTS, length, TOKEN)).astype(np.float32)
    observed = rng.random(x.shape) < 0.7
    times = np.cumsum(rng.uniform(0.05, 0.12, (SUBJECTS, length)), axis=1).astype(np.float32)
    return x, observed, times, rng.normal(size=SUBJECTS).astype(np.float32)


def asked(length: int) -> tuple[Sequence, Query, Array]:
    """The same as a sequence, its question and its answer."""
    x, observed, times, truth = map(jnp.asarray, given(length))
    sequence = Sequence(x, observed, times, jnp.ones(times.shape, bool))
    last = jnp.full((SUBJECTS, 1), length - 1)
    query = Query(
        times[:, -1:] + 1 / 12,
        last,
        jnp.zeros((SUBJECTS, 1, 0)),
        jnp.zeros((SUBJECTS, 1, 0), bool),
        jnp.ones(last.shape, bool),
    )
    return sequence, query, truth


def contenders(task: str, name: str) -> Contenders:
    """Our side of a case: a whole step, compiled."""
    head, length = name.split(" T=")
    told = asked(int(length))
    graph = nnx.split(nnx.eval_shape(lambda: Regression(head, rngs=nnx.Rngs(0))))[0]
    params = nnx.split(Regression(head, rngs=nnx.Rngs(0)))[1]
    adam = optax.adam(RATE)

    def loss(params: PyTree, sequence: Sequence, query: Query, truth: Array) -> Array:
        return jnp.square(nnx.merge(graph, params)(sequence, query) - truth).mean()

    def step(params: PyTree, momenta: PyTree, *told: PyTree) -> tuple[PyTree, PyTree, Array]:
        value, slope = jax.value_and_grad(loss)(params, *told)
        change, momenta = adam.update(slope, momenta, params)
        return optax.apply_updates(params, change), momenta, value

    state = [params, adam.init(params)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, *told).compile()

    def run() -> None:
        *state[:], _ = jax.block_until_ready(compiled(*state, *told))

    return Contenders({"prognax": run}, {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))})


def _line(name: str, case: dict) -> str:
    times = "  ".join(f"{who} {time['median_ms']:.2f} ms" for who, time in case["times"].items())
    ratio = f"  ratio {case['ratio']:.2f}" if "ratio" in case else ""
    return f"{name:18} {case['steps_per_second']:7.1f} steps/s  {times}{ratio}"


def main() -> None:
    """Time every case asked for, print a line each and leave the record."""
    told = _arguments()
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("benchmarks.heads", SHARED))
        peer = stack.enter_context(Worker("benchmarks.peers.heads", SHARED)) if told.peers else None
        cases = {}
        for name in told.cases:
            cases[name] = _one(ours, peer if name.split()[0] in PEERS else None, name, told)
            print(_line(name, cases[name]), flush=True)
        theirs = peer.environment if peer else {"versions": {}, "settings": None}
        versions = ours.environment["versions"] | theirs["versions"]
        how = {"warmup": told.warmup, "rounds": told.rounds, "calls": told.calls, "peer_settings": theirs["settings"]}
        result = measure.record("heads", {**ours.environment, "versions": versions}, cases, **how)
    judged = [case["ratio"] for name, case in cases.items() if name.endswith("T=64") and "ratio" in case]
    measure.write({**result, "ratio": min(judged, default=None)})


def _one(ours: Worker, peer: Worker | None, name: str, told: argparse.Namespace) -> dict:
    labels, facts = ours.prepare("step", name)
    turns = {label: partial(ours.turn, label) for label in labels}
    failed: dict[str, str] = {}
    if peer is not None:
        others, theirs = entered(peer, failed, "step", name, compiled=told.compiled)
        turns |= others
        facts |= {"peer_parameters": theirs.get("parameters")}
    for turn in turns.values():
        turn(told.warmup)
    seconds = measure.interleave(turns, told.rounds, told.calls)
    seconds = {label: taken for label, taken in seconds.items() if label not in failed}
    times = {label: measure.summary(taken) for label, taken in seconds.items()}
    case = {**facts, "steps_per_second": round(float(1e3 / times[labels[0]]["median_ms"]), 1), "times": times}
    if failed:
        case |= {"failed": failed}
    if others := [label for label in seconds if label not in labels]:
        best = min(others, key=lambda label: times[label]["median_ms"])
        case |= {"peer": best, **measure.against(seconds[labels[0]], seconds[best])}
    return case


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description="Steps of sequence heads.")
    parser.add_argument("--peers", action="store_true", help="measure PyTorch in the same run, in turns")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too, which takes minutes a case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help="such as 'gru T=64'")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=4, help="timed calls in a turn, after one that is not")
    parser.add_argument("--warmup", type=int, default=3, help="untimed calls before the first round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
