"""Members that have stopped leave the program: those that go on are gathered into a smaller one."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

SAVED = {"cpu": 1e11}  # FLOPs, some ten seconds of small steps, that it must save to be worth compiling anew
ELSEWHERE = 1e13


def narrowed(active: Bool[np.ndarray, " m"], flops: float, steps: int) -> Int[np.ndarray, " w"] | None:
    """The places to go on with, half of them or a quarter and so on; None where that does not pay.

    `flops` are those of a step of all places, of which `steps` are left at most. It hangs on nothing that differs
    between a run and the same run gone on with, so that both end bit-equal.
    """
    width, left = len(active), int(active.sum())
    while left and -(-width // 2) >= left and width > 1:
        width = -(-width // 2)
    saved = flops * steps * (1 - width / len(active))
    if saved < SAVED.get(jax.default_backend(), ELSEWHERE):
        return None
    return np.sort(np.argsort(~active, kind="stable")[:width])


@jax.jit
def taken(tree: PyTree, places: Int[Array | np.ndarray, " w"]) -> PyTree:
    """Those places of every array's first axis."""
    return jax.tree.map(lambda x: x[places], tree)


@jax.jit
def put(whole: PyTree, part: PyTree, places: Int[Array | np.ndarray, " w"]) -> PyTree:
    """The whole, with a part of it put back in its places."""
    return jax.tree.map(lambda x, new: x.at[places].set(new), whole, part)


class Lanes:
    """Who of all members is in the program under way, and what it is told of them."""

    def __init__(self, places: Int[np.ndarray, " w"], members: int, told: PyTree):
        self.places, self._members, self._all = places, members, told
        self._full = len(places) == members
        self.told = told if self._full else taken(told, places)

    @property
    def padded(self) -> Int[np.ndarray, " m"]:
        """The places with room for all members, -1 where there is none."""
        return np.pad(self.places, (0, self._members - len(self.places)), constant_values=-1)

    def only(self, some: Int[np.ndarray, " v"]) -> "Lanes":
        """Some of these alone."""
        return Lanes(self.places[some], self._members, self._all)

    def of(self, batch: PyTree, axis: int = 0) -> PyTree:
        """A batch of theirs; `axis` is that of the members."""
        return batch if self._full else jax.tree.map(lambda x: np.take(x, self.places, axis), batch)
