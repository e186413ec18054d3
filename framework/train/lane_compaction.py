"""Lane compaction: stopped members leave a compiled program, the others are gathered into a smaller one."""

import jax
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

SAVED = {"cpu": 1e11}  # FLOPs, some ten seconds of small steps, that must be saved to make recompilation worthwhile
ELSEWHERE = 1e13


def narrowed(active: Bool[np.ndarray, " m"], flops: float, steps: int) -> Int[np.ndarray, " w"] | None:
    """Return the lanes to continue with, half of them or a quarter and so on; None where compaction does not pay.

    `flops` are those of a step of all lanes, of which `steps` are left at most. The result depends on nothing that
    differs between a run and the same run after resumption, so that both end bit-equal.
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
    """Return the given places of every array's first axis."""
    return jax.tree.map(lambda x: x[places], tree)


@jax.jit
def put(whole: PyTree, part: PyTree, places: Int[Array | np.ndarray, " w"]) -> PyTree:
    """Return `whole` with `part` put back in its places."""
    return jax.tree.map(lambda x, new: x.at[places].set(new), whole, part)


class Lanes:
    """The members in the current program, and the program's arguments for them."""

    def __init__(self, places: Int[np.ndarray, " w"], members: int, arguments: PyTree):
        self.places, self._members, self._all = places, members, arguments
        self._full = len(places) == members
        self.arguments = arguments if self._full else taken(arguments, places)

    @property
    def padded(self) -> Int[np.ndarray, " m"]:
        """The places, padded to the number of members with -1."""
        return np.pad(self.places, (0, self._members - len(self.places)), constant_values=-1)

    def only(self, lanes: Int[np.ndarray, " v"]) -> "Lanes":
        """Return the given ones of these lanes."""
        return Lanes(self.places[lanes], self._members, self._all)

    def of(self, batch: PyTree, axis: int = 0) -> PyTree:
        """Return the part of a batch that belongs to these members; `axis` is that of the members."""
        return batch if self._full else jax.tree.map(lambda x: np.take(x, self.places, axis), batch)
