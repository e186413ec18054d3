"""Placement of training on devices: on one, or shared by several, of one host or of many.

A mesh places three things: the state carried from step to step (parameters, momenta, averages, the best so far),
batches, and arrays that every device needs whole (statistics, tables). The step itself is the same program: GSPMD
keeps its meaning over the whole batch, so that the parameters equal those of one device, within rounding. Kernels
opaque to GSPMD (the native ones on a CPU) run whole on every device: correct, but no faster.
"""

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from framework.configurable import configurable
from framework.data.batches.batch import Drawn
from framework.errors import UserError

PATIENCE = 300.0  # s: how long to wait for the coordinator
DAY = 24 * 3600  # s: how long a process that is done waits for the first one, which evaluates and reports
Tree = TypeVar("Tree")


@configurable("mesh")
@dataclass(frozen=True)
class SingleDevice:
    """One device, and nothing to be placed."""

    @property
    def narrows(self) -> bool:
        """Whether members that have stopped may leave the program."""
        return True

    @property
    def count(self) -> int:
        """How many devices share a batch."""
        return 1

    def check(self, batch: int, parts: int) -> None:
        """Raise UserError where a batch of so many subjects, in so many parts, cannot be shared."""
        if jax.process_count() > 1:
            raise UserError(
                f"mesh=single uses one device, but hosts.num_processes={jax.process_count()}; add mesh=data"
            )

    def advancing(self, advance: Callable, members: PyTree) -> Callable:
        """The compiled step, writing over these members."""
        return jax.jit(advance, donate_argnums=0, compiler_options=_effort())

    def judging(self, losses: Callable) -> Callable:
        """The compiled validation."""
        return jax.jit(losses)

    def state(self, tree: Tree) -> Tree:
        """Place the state carried from step to step; NumPy arrays stay on the host."""
        return tree

    def whole(self, tree: Tree) -> Tree:
        """Place arrays that every device needs whole."""
        return tree

    def batch(self, batch: Drawn) -> Drawn:
        """Place a batch, whose leaves are (..., subjects or packed scans, their own axes)."""
        return batch

    def fetched(self, tree: Tree) -> Tree:
        """Return placed arrays, whole again on this process's first device."""
        return tree

    def agreed(self, asked: bool) -> bool:
        """Whether `asked` is true in any process."""
        return asked


@dataclass(frozen=True)
class DataParallel(SingleDevice):
    """Each device takes its share of every batch and holds all parameters; `devices` None uses all there are."""

    devices: int | None

    @cached_property
    def _mesh(self) -> Mesh:
        found = jax.devices()
        wanted = len(found) if self.devices is None else self.devices
        if not 1 <= wanted <= len(found):
            raise UserError(f"mesh.devices is {wanted}; expected 1 to {len(found)}, or null for all there are")
        if wanted < len(found) and jax.process_count() > 1:
            raise UserError(f"mesh.devices is {wanted}; with hosts.num_processes={jax.process_count()} leave it null")
        return Mesh(np.array(found[:wanted]), ("data",))

    @property
    def narrows(self) -> bool:
        return False

    @property
    def count(self) -> int:
        return self._mesh.size

    def check(self, batch: int, parts: int) -> None:
        step = self.count * parts
        if batch % step:
            below = batch - batch % step
            sizes = " or ".join(str(size) for size in (below, below + step) if size)
            into = f" in {parts} parts" if parts > 1 else ""
            raise UserError(
                f"training.batch={batch}{into} is not divisible by {self.count} devices; use training.batch={sizes}"
            )

    def advancing(self, advance: Callable, members: PyTree) -> Callable:
        stays = jax.tree.map(lambda x: x.sharding, members)
        return jax.jit(advance, donate_argnums=0, out_shardings=(stays, self._over()), compiler_options=_effort())

    def judging(self, losses: Callable) -> Callable:
        return jax.jit(losses, out_shardings=self._over())

    def state(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: _put(x, self._over(*self._cut(x.shape))) if isinstance(x, jax.Array) else x, tree)

    def whole(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: _put(x, self._over()), tree)

    def batch(self, batch: Drawn) -> Drawn:
        before = [None] * (np.ndim(batch.weight) - 1)
        return jax.tree.map(lambda x: _put(x, self._over(*before, "data")), batch)

    def fetched(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: jax.device_put(np.asarray(x), jax.local_devices()[0]), self.whole(tree))

    def agreed(self, asked: bool) -> bool:
        return asked if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array([asked])).any())

    def _cut(self, shape: tuple[int, ...]) -> list[str | None]:
        """Along which axis an array of the state is split among the devices."""
        return []

    def _over(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))


@dataclass(frozen=True)
class FullyShardedDataParallel(DataParallel):
    """Parameters, momenta and averages are shared out as well: each array along its longest axis that divides.

    A device holds its share between steps and has the rest sent when it is needed (ZeRO, Rajbhandari et al. 2020).
    """

    def _cut(self, shape: tuple[int, ...]) -> list[str | None]:
        can = [axis for axis in range(1, len(shape)) if shape[axis] and shape[axis] % self.count == 0]  # 0: members
        if not can:
            return []
        longest = max(can, key=lambda axis: shape[axis])
        return [*[None] * longest, "data"]


@configurable("hosts")
@dataclass(frozen=True)
class Hosts:
    """Computers that train together, each started by the same command but for its number, `process_id`.

    `coordinator_address` is the address and port of process 0; None with one process. They share the folders of
    data and runs, where the first alone writes beside the checkpoints.
    """

    coordinator_address: str | None
    num_processes: int
    process_id: int

    def __post_init__(self):
        if self.num_processes < 1:
            raise UserError(f"hosts.num_processes is {self.num_processes}; expected 1 or more")
        if not 0 <= self.process_id < self.num_processes:
            raise UserError(
                f"hosts.process_id is {self.process_id}; expected 0 to {self.num_processes - 1}, another on each host"
            )
        if self.num_processes > 1 and not re.fullmatch(r".+:\d+", self.coordinator_address or ""):
            raise UserError(
                f"hosts.coordinator_address is {self.coordinator_address!r}; expected the address and port of "
                "process 0, for example host:1234"
            )

    def join(self) -> None:
        """Connect to the other processes, before any computation. Raises UserError where the coordinator is silent."""
        if self.num_processes == 1 or jax.distributed.is_initialized():
            return
        if self.process_id:
            self._await()
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            self.coordinator_address, self.num_processes, self.process_id, shutdown_timeout_seconds=DAY
        )

    def _await(self) -> None:
        """Wait for the coordinator, without which JAX would end the process by a signal."""
        name, _, port = str(self.coordinator_address).rpartition(":")
        until = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection((name, int(port)), timeout=1).close()
                return
            except OSError as error:
                if time.monotonic() > until:
                    raise UserError(
                        f"no process answers at hosts.coordinator_address={self.coordinator_address} "
                        f"({error.strerror or error}); "
                        "start hosts.process_id=0 there, and see that its port can be reached"
                    ) from error
            time.sleep(0.1)


def _effort() -> dict[str, int] | None:
    """On a CPU LLVM's first level compiles a step in two thirds of the time of its third, and runs it no slower."""
    chosen = jax.config.values["jax_disable_most_optimizations"]  # less still
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" and not chosen else None


def is_first() -> bool:
    """Whether this process is the one that writes and reports."""
    return jax.process_index() == 0


def _put(x: jax.Array | np.ndarray, where: NamedSharding) -> jax.Array:
    """Place an array that every process has whole: each process gives its own devices their share."""
    if where.is_fully_addressable:
        return jax.device_put(x, where)
    if isinstance(x, jax.Array) and not x.is_fully_addressable:  # shared already, perhaps otherwise
        same = x.sharding.is_equivalent_to(where, x.ndim)
        return x if same else jax.jit(lambda x: x, out_shardings=where)(x)
    if isinstance(x, jax.Array) and jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(x), where), impl=jax.random.key_impl(x))
    host = np.asarray(x)
    host = host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)
    return jax.make_array_from_callback(host.shape, where, lambda share: host[share])
