"""Cost of training: time, the work of a step, and its share of the machine's limits."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from framework.data.batches.batch import Drawn, Tables
from framework.train.cost import machine
from framework.train.cost.flops import Work, work
from framework.types import Arr

WORTH_MEASURING = 60.0  # s: a shorter run is not kept waiting until the machine's own rates are measured
FLOATS = ("bfloat16", "float16", "float64")  # products of anything else are held against those of float32


@dataclass(frozen=True)
class Cost:
    """Cost of one training run. Rates are those of the steady state: steps after the first call, which compiles.

    `compile_seconds` are those of the step; `waiting` is the share of the steady time spent waiting for data. FLOPs
    and bytes are those of one step of all members, as `framework.train.cost.flops` counts them, less what `uncounted`
    names; `flops_per_second` are reached while stepping. `peak_share` (MFU) is the least time in which the devices
    could do these FLOPs over the time they took, by the fastest matrix product of each type measured on one device.
    The step is bound by compute where its FLOPs a byte (`intensity`) are more than the machine does in the time it
    moves one (`ridge`), else by memory. None is what was not measured. `peak_memory` is the process's where memory is
    shared with it (a CPU), else the device's.
    """

    seconds: float
    compile_seconds: float
    steps: int
    members: int
    scans_per_second: float | None
    visits_per_second: float | None
    subjects_per_second: float | None
    waiting: float | None
    step_flops: float | None
    step_bytes: float | None
    uncounted: tuple[str, ...]
    flops_per_second: float | None
    peak_share: float | None
    intensity: float | None
    ridge: float | None
    bound: Literal["compute", "memory"] | None
    peak_memory: int
    device: str


class Meter:
    """Wall time, the part of it spent compiling or waiting, and how fast subjects and scans go through the step."""

    def __init__(self):
        self._started = time.perf_counter()
        self._compiled: Callable | None = None
        self._work: Work | None = None  # of a call of the program under way
        self._whole: Work | None = None  # of the first
        self._compile = self._stepping = self._waited = 0.0
        self._calls, self._steps, self._devices = 0.0, 0, 1  # calls of the first program, or as much work
        self._subjects = self._visits = self._scans = 0.0

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever fetches the next batches."""
        start = time.perf_counter()
        yield
        if self._compiled is not None:  # what is waited for before the first step is starting up
            self._waited += time.perf_counter() - start

    def time(self, function: Any, *args: PyTree) -> PyTree:
        """Compile a jitted function on the first call, run, wait for the result; the last arguments are Tables
        and a Drawn of (steps, members, ...).
        """
        compiled = self._compiled
        first = compiled is None
        if compiled is None:
            start = time.perf_counter()
            traced = function.trace(*args)
            compiled = self._compiled = traced.lower().compile()
            self._compile += time.perf_counter() - start
            self._work = work(traced.jaxpr)
            self._whole = self._whole or self._work
        start = time.perf_counter()
        result = jax.block_until_ready(compiled(*args))
        self._steps = args[-1].weight.shape[0]
        if first:
            self._devices = _devices(result)
        else:
            self._stepping += time.perf_counter() - start
            self._calls += self._work.flops / self._whole.flops if self._work and self._whole else 1
            self._count(*args[-2:])
        return result

    def recompile(self) -> None:
        """Compile at the next call, which is of a program of fewer members."""
        self._compiled = None

    @property
    def flops(self) -> float:
        """FLOPs of one step of the current program."""
        return self._work.flops / self._steps if self._work else 0.0

    def _count(self, tables: Tables, batches: Drawn) -> None:
        scans = [one.valid for one in (*batches.scans.values(), *batches.placed.values())]
        subjects, visits, seen = _counts(tables.visits.valid, batches.subject, batches.weight, scans)
        self._subjects += float(subjects)
        self._visits += float(visits)
        self._scans += float(seen)

    def cost(self, steps: int, members: int) -> Cost:
        """The cost of a run of so many steps; may take a second or two more to measure the machine after a long one."""
        seconds, steady, done = self.elapsed, self._stepping + self._waited, self._whole

        def rate(count: float) -> float | None:
            return count / steady if steady and count else None

        flops = done.flops * self._calls if done else 0.0
        share, ridge = _limits(done, seconds > WORTH_MEASURING) if done else (None, None)
        intensity = done.flops / done.bytes if done and done.bytes else None
        return Cost(
            seconds=seconds,
            compile_seconds=self._compile,
            steps=steps,
            members=members,
            scans_per_second=rate(self._scans),
            visits_per_second=rate(self._visits),
            subjects_per_second=rate(self._subjects),
            waiting=self._waited / steady if steady else None,
            step_flops=done.flops / self._steps if done else None,
            step_bytes=done.bytes / self._steps if done else None,
            uncounted=done.uncounted if done else (),
            flops_per_second=flops / self._stepping if self._stepping else None,
            peak_share=share * self._calls / self._stepping / self._devices if share and self._stepping else None,
            intensity=intensity,
            ridge=ridge,
            bound=None if ridge is None or intensity is None else "compute" if intensity > ridge else "memory",
            peak_memory=machine.peak_memory(),
            device=machine.name(),
        )


@jax.jit
def _counts(
    valid: Bool[Arr, "n t"], subject: Int[Arr, "*m b"], weight: Float[Arr, "*m b"], scans: list[Bool[Arr, "*m s"]]
) -> tuple[Array, Array, Array]:
    """Subjects, visits and scans of some batches."""
    visits = (jnp.sum(jnp.asarray(valid), 1)[subject] * weight).sum()
    return jnp.sum(weight), visits, sum((jnp.sum(one) for one in scans), jnp.zeros((), int))


def _limits(done: Work, measure: bool) -> tuple[float | None, float | None]:
    """The least seconds in which one device could do the FLOPs of a call, and the FLOPs it does a byte it moves."""
    flops = dict.fromkeys((_kind(kind) for kind in done.by_type), 0.0)
    for kind, count in done.by_type.items():
        flops[_kind(kind)] += count
    rates = machine.known([*flops, machine.MEMORY])
    if measure:
        rates |= machine.measured({*flops, machine.MEMORY} - rates.keys())
    if not flops or len(rates) <= len(flops):
        return None, None
    least = sum(count / rates[kind] for kind, count in flops.items())
    return least, done.flops / least / rates[machine.MEMORY]


def _kind(of: str) -> str:
    return of if of in FLOATS else "float32"


def _devices(result: PyTree) -> int:
    """The devices that share the work, and with it the peak; the devices that a CPU is cut into are one."""
    shared = max(len(leaf.sharding.device_set) for leaf in jax.tree.leaves(result))
    return shared if jax.default_backend() != "cpu" else jax.process_count()
