"""Networks of `step` and `inference`, and the compiled calls that are timed."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PyTree

from benchmarks.cases import CASES, CHANNELS, CLASSES, EMBEDDING, GROUPS, RATE, RESNET10, STATE, Case, Contenders
from framework.nn.encoders.plain import Plain
from framework.nn.encoders.resnet import ResNet
from framework.nn.heads.gru import GRU
from framework.nn.heads.rnn import Recurrence
from framework.nn.layers import Dense
from framework.nn.native import library
from framework.train.cost import machine
from framework.train.cost.flops import work_of
from framework.types import Query, Sequence

MODELS = 8  # trained in one vmapped step


class Series(nnx.Module):
    """A plain CNN on every scan, a GRU over each subject's visits, and a forecast a year after the last."""

    def __init__(self, case: Case, *, rngs: nnx.Rngs):
        self.encoder = Plain(CHANNELS, GROUPS, EMBEDDING, grid=(*(case.side,) * 3, 1), rngs=rngs)
        self.head = Recurrence(partial(GRU, STATE), d_in=EMBEDDING, rngs=rngs)
        self.dense = Dense(STATE, 1, rngs=rngs)
        self.shape = case.scans // case.visits, case.visits

    def __call__(self, voxels: Float[Array, "n x y z c"], times: Float[Array, "b t"]) -> Float[Array, " b"]:
        tokens = self.encoder(voxels).reshape(*self.shape, EMBEDDING)
        seen = jnp.ones(self.shape, bool)
        sequence = Sequence(tokens, jnp.ones(tokens.shape, bool), times, seen)
        last = jnp.full((self.shape[0], 1), self.shape[1] - 1)
        query = Query(
            times[:, -1:] + 1,
            last,
            jnp.zeros((*last.shape, 0)),
            jnp.zeros((*last.shape, 0), bool),
            jnp.ones(last.shape, bool),
        )
        return self.dense(self.head(sequence, query))[:, 0, 0]


def network(case: Case, rngs: nnx.Rngs) -> Any:
    """Return the module of a case with initial parameters."""
    grid = (*(case.side,) * 3, 1)
    match case.network:
        case "plain":
            return Plain(CHANNELS, GROUPS, CLASSES, grid=grid, rngs=rngs)
        case "series":
            return Series(case, rngs=rngs)
        case "resnet10":
            return ResNet(**RESNET10, out_features=CLASSES, grid=grid, rngs=rngs)
    raise ValueError(f"no network {case.network!r}")


def batch(case: Case) -> tuple[tuple[Array, ...], Array]:
    """Return the inputs and targets of a case."""
    voxels = jnp.asarray(case.voxels())
    if case.network == "series":
        return (voxels, jnp.asarray(case.times())), jnp.asarray(case.values())
    return (voxels,), jnp.asarray(case.labels())


def loss(answer: Array, truth: Array) -> Float[Array, ""]:
    """Return the cross-entropy of classes or the squared error of numbers."""
    if answer.ndim == 1:
        return jnp.square(answer - truth).mean()
    return optax.softmax_cross_entropy_with_integer_labels(answer, truth).mean()


def stepper(case: Case) -> tuple[Callable, Callable]:
    """Return a pure training step (params, momenta, inputs, truth) → (params, momenta, loss) and its initialiser."""
    graph, _ = nnx.split(nnx.eval_shape(lambda: network(case, nnx.Rngs(0))))
    adam = optax.adam(RATE)

    def objective(params: PyTree, inputs: tuple[Array, ...], truth: Array) -> Float[Array, ""]:
        return loss(nnx.merge(graph, params, copy=True)(*inputs), truth)

    def step(params: PyTree, momenta: PyTree, inputs: tuple[Array, ...], truth: Array) -> tuple:
        value, slope = jax.value_and_grad(objective)(params, inputs, truth)
        change, momenta = adam.update(slope, momenta, params)
        return optax.apply_updates(params, change), momenta, value

    def start(key: Array) -> tuple[PyTree, PyTree]:
        params = nnx.split(network(case, nnx.Rngs(key)))[1]
        return params, adam.init(params)

    return step, start


def contenders(task: str, name: str) -> Contenders:
    """Return the compiled calls of a task: a training step, a forward pass or a step of eight models."""
    if name == "vmap":
        return _vmapped(CASES["32³×16"])
    case = CASES[name]
    run, facts = _step(case) if task == "step" else _inference(case)
    return Contenders({"prognax": run}, facts)


def _step(case: Case) -> tuple[Callable[[], object], dict]:
    step, start = stepper(case)
    inputs, truth = batch(case)
    params, momenta = jax.jit(start)(jax.random.key(0))
    compiled, facts = _compiled(jax.jit(step, donate_argnums=(0, 1)), params, momenta, inputs, truth)
    return _advancing(compiled, params, momenta, inputs, truth), facts


def _inference(case: Case) -> tuple[Callable[[], object], dict]:
    graph, params = nnx.split(network(case, nnx.Rngs(0)))
    inputs, _ = batch(case)
    forward = jax.jit(lambda params, inputs: nnx.merge(graph, params)(*inputs))
    compiled, facts = _compiled(forward, params, inputs)
    return lambda: jax.block_until_ready(compiled(params, inputs)), facts


def _vmapped(case: Case) -> Contenders:
    """Return a step of eight models, each with its own batch: vmapped, and in sequence."""
    step, start = stepper(case)
    inputs, truth = batch(case)
    params, momenta = jax.jit(jax.vmap(start))(jax.random.split(jax.random.key(0), MODELS))
    batches, truths = jax.tree.map(lambda x: jnp.stack([jnp.roll(x, i, 0) for i in range(MODELS)]), (inputs, truth))
    one = jax.jit(step, donate_argnums=(0, 1))
    singles = [_advancing(one, *_lane((params, momenta, batches, truths), i)) for i in range(MODELS)]
    mapped, facts = _compiled(jax.jit(jax.vmap(step), donate_argnums=(0, 1)), params, momenta, batches, truths)
    together = _advancing(mapped, params, momenta, batches, truths)
    return Contenders({"vmap": together, "one by one": lambda: [single() for single in singles]}, facts)


def _lane(stacked: PyTree, place: int) -> PyTree:
    return jax.tree.map(lambda x: jnp.copy(x[place]), stacked)


def _advancing(step: Callable, params: PyTree, momenta: PyTree, inputs: tuple[Array, ...], truth: Array) -> Callable:
    """Return a step that continues from its last call, since buffers are donated."""
    state = [params, momenta]

    def run() -> None:
        *state[:], _ = jax.block_until_ready(step(*state, inputs, truth))

    return run


def _compiled(function: Any, *args: PyTree) -> tuple[Callable, dict]:
    start = time.perf_counter()
    compiled = function.lower(*args).compile()
    facts: dict[str, Any] = {"compile_seconds": round(time.perf_counter() - start, 3)}
    counted = work_of(function, *args)
    return compiled, facts | ({} if counted.uncounted else {"flops": counted.flops, "bytes": counted.bytes})


def environment() -> dict:
    """Return the device and the versions."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "native": library.name() if device.platform == "cpu" else "xla",
        "rates": machine.measured(["float32", machine.MEMORY]),
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "optax": optax.__version__},
    }
