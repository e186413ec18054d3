"""Time of a training step of each sequence head, beside PyTorch.

    python -m benchmarks.heads [--peers] [--compiled] [--cases "gru_d T=64" …]

Every head of conf/model/head at 8, 64 and 512 visits: 32 subjects, tokens of 16 numbers, 64 features, one query per
subject a month after its last visit, squared error, Adam. Visits are about a month apart; minimalRNN, whose grid is a
month, takes one step per visit. With --peers, in turns with ours: GRU-D and minimalRNN as loops over time in PyTorch,
and torch.nn.GRU on the inputs of our GRU, on one thread and on all; with --compiled these also under torch.compile,
which takes minutes for long loops. The ratio is PyTorch's shortest time over ours.

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
from benchmarks.networks import environment as environment  # called by the worker
from benchmarks.paired_timing import SHARED
from benchmarks.worker import Worker, peer_turns
from framework.nn.layers import Dense
from framework.types import Query, Sequence

SUBJECTS, TOKEN, FEATURES = 32, 16, 64
LENGTHS = (8, 64, 512)
PEERS = ("gru", "gru_d", "minimal_rnn")
HEADS = sorted(file.stem for file in (Path(conf.__file__).parent / "model/head").glob("*.yaml"))
CASES = [f"{head} T={length}" for head in HEADS for length in LENGTHS]


class Regression(nnx.Module):
    """A head and a number forecast from its output."""

    def __init__(self, name: str, *, rngs: nnx.Rngs):
        self.head = recipe(name)(d_in=TOKEN, rngs=rngs)
        self.dense = Dense(self.head.out_features, 1, rngs=rngs)

    def __call__(self, sequence: Sequence, query: Query) -> Float[Array, " b"]:
        return self.dense(self.head(sequence, query))[:, 0, 0]


def recipe(name: str) -> Callable[..., Any]:
    """Return the head of a configuration with the size of this benchmark."""
    with initialize_config_module("conf", version_base="1.3"):
        made = compose("forecast", ["model=deep", f"model/head={name}"]).model.head
    part = made.cell if "cell" in made else made
    part.features = FEATURES
    if "limit" in part:
        part.limit = 1
    return instantiate(made, _convert_="all")


def inputs(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Simulate tokens, their mask (70% observed), times in years, and outcomes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SUBJECTS, length, TOKEN)).astype(np.float32)
    observed = rng.random(x.shape) < 0.7
    times = np.cumsum(rng.uniform(0.05, 0.12, (SUBJECTS, length)), axis=1).astype(np.float32)
    return x, observed, times, rng.normal(size=SUBJECTS).astype(np.float32)


def example(length: int) -> tuple[Sequence, Query, Array]:
    """Return the inputs as a sequence, its query and its outcome."""
    x, observed, times, truth = map(jnp.asarray, inputs(length))
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
    """Return the compiled training step of a case."""
    head, length = name.split(" T=")
    batch = example(int(length))
    graph = nnx.split(nnx.eval_shape(lambda: Regression(head, rngs=nnx.Rngs(0))))[0]
    params = nnx.split(Regression(head, rngs=nnx.Rngs(0)))[1]
    adam = optax.adam(RATE)

    def loss(params: PyTree, sequence: Sequence, query: Query, truth: Array) -> Array:
        return jnp.square(nnx.merge(graph, params)(sequence, query) - truth).mean()

    def step(params: PyTree, momenta: PyTree, *batch: PyTree) -> tuple[PyTree, PyTree, Array]:
        value, slope = jax.value_and_grad(loss)(params, *batch)
        change, momenta = adam.update(slope, momenta, params)
        return optax.apply_updates(params, change), momenta, value

    state = [params, adam.init(params)]
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*state, *batch).compile()

    def run() -> None:
        *state[:], _ = jax.block_until_ready(compiled(*state, *batch))

    return Contenders({"prognax": run}, {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))})


def _line(name: str, case: dict) -> str:
    times = "  ".join(f"{label} {time['median_ms']:.2f} ms" for label, time in case["times"].items())
    ratio = f"  ratio {case['ratio']:.2f}" if "ratio" in case else ""
    return f"{name:18} {case['steps_per_second']:7.1f} steps/s  {times}{ratio}"


def main() -> None:
    """Time the requested cases, print a line each and write the record."""
    args = _arguments()
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("benchmarks.heads", SHARED))
        peer = stack.enter_context(Worker("benchmarks.peers.heads", SHARED)) if args.peers else None
        cases = {}
        for name in args.cases:
            cases[name] = _time_case(ours, peer if name.split()[0] in PEERS else None, name, args)
            print(_line(name, cases[name]), flush=True)
        theirs = peer.environment if peer else {"versions": {}, "settings": None}
        versions = ours.environment["versions"] | theirs["versions"]
        how = {"warmup": args.warmup, "rounds": args.rounds, "calls": args.calls, "peer_settings": theirs["settings"]}
        result = measure.record("heads", {**ours.environment, "versions": versions}, cases, **how)
    gated = [case["ratio"] for name, case in cases.items() if name.endswith("T=64") and "ratio" in case]
    measure.write({**result, "ratio": min(gated, default=None)})


def _time_case(ours: Worker, peer: Worker | None, name: str, args: argparse.Namespace) -> dict:
    labels, facts = ours.prepare("step", name)
    turns = {label: partial(ours.turn, label) for label in labels}
    failed: dict[str, str] = {}
    if peer is not None:
        others, theirs = peer_turns(peer, failed, "step", name, compiled=args.compiled)
        turns |= others
        facts |= {"peer_parameters": theirs.get("parameters")}
    for turn in turns.values():
        turn(args.warmup)
    seconds = measure.interleave(turns, args.rounds, args.calls)
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
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description="Times of sequence heads.")
    parser.add_argument("--peers", action="store_true", help="measure PyTorch in the same run, in turns")
    parser.add_argument("--compiled", action="store_true", help="torch.compile too, which takes minutes per case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, metavar="CASE", help="such as 'gru T=64'")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--calls", type=int, default=4, help="timed calls per turn, after an untimed one")
    parser.add_argument("--warmup", type=int, default=3, help="untimed calls before the first round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
