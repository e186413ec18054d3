"""How fast this machine is at its best, measured once and kept, and how much memory has been taken."""

import json
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp

from framework.files import write_atomic

CACHE = Path.home() / ".cache" / "prognax" / "machines"
MEMORY = "memory"  # the rate that is bytes a second, where the others are FLOPs a second by the type of the operands
LARGEST = 2**31  # bytes of the largest array used to measure, where there is room


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def known(kinds: Collection[str]) -> dict[str, float]:
    """The best rates seen of a device like this: FLOP/s of a matrix product by its type, B/s of memory.

    What was never measured is left out.
    """
    path = _path()
    rates = json.loads(path.read_text()) if path.is_file() else {}
    return {kind: rates[kind] for kind in kinds if kind in rates}


def measured(kinds: Collection[str]) -> dict[str, float]:
    """The same, measured now, about a second each; a slower moment than an earlier one changes nothing."""
    path = _path()
    before = json.loads(path.read_text()) if path.is_file() else {}
    now = {kind: _bandwidth() if kind == MEMORY else _products(kind) for kind in kinds}
    best = {kind: max(rate, before.get(kind, 0)) for kind, rate in now.items()}
    with suppress(OSError):  # where nothing can be kept, the next run measures again, and this one goes on
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(before | best, indent=1))
    return best


def name() -> str:
    """The device's kind; of a CPU its model and the cores that may be used."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.is_file() else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{models[0] if models else platform.processor() or platform.machine()}, {cores} cores"


def peak_memory() -> int:
    """The most bytes taken so far: of an accelerator's memory where there is one, else of this whole process's."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return max(stat["peak_bytes_in_use"] for stat in stats if stat)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return taken if sys.platform == "darwin" else taken * 1024


def _products(kind: str) -> float:
    """FLOP/s of the largest square matrix product that is over in a moment."""
    multiply = jax.jit(jnp.matmul)
    side, seconds, x = 512, 0.0, jnp.zeros((512, 512), kind)
    while seconds < 0.02 and 2 * (2 * side) ** 2 * jnp.dtype(kind).itemsize <= _room():
        side *= 2
        # numbers as they come: a processor may be faster on zeros
        x = jax.random.normal(jax.random.key(0), (side, side)).astype(kind)
        seconds = _fastest(lambda x=x: multiply(x, x), 1)
    return 2 * side**3 / _fastest(lambda: multiply(x, x), 10)


def _bandwidth() -> float:
    """B/s of adding one to an array in place: read once, written once."""
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    size, seconds, x = 2**27, 0.0, jnp.zeros(2**25)

    def once() -> jax.Array:
        nonlocal x
        x = add(x)
        return x

    while seconds < 0.005 and 2 * size <= _room():
        size *= 2
        x = jnp.zeros(size // 4, jnp.float32)
        seconds = _fastest(once, 1)
    return 2 * size / _fastest(once, 10)


def _room() -> int:
    """The bytes that an array may have, so that measuring at a run's end never asks for more than is left."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return LARGEST
    return min(LARGEST, (stats["bytes_limit"] - stats["bytes_in_use"]) // 8)


def _fastest(call: Callable[[], jax.Array], calls: int) -> float:
    """Seconds of the fastest of several calls, after one that compiles."""
    jax.block_until_ready(call())
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - start)
    return min(taken)


def _path() -> Path:
    return CACHE / f"{re.sub('[^a-z0-9]+', '-', name().lower()).strip('-')}.json"
