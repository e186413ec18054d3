"""The request that every forecaster receives: members to fit on the same examples, and where their progress goes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Bool, Key

from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.train.optimizer import TracedHyperparameters

Log = Callable[[dict], None]  # receives each round of a member, and the number of its fits that are `done`


def silent(row: dict) -> None:
    """Record nothing."""


@dataclass(frozen=True)
class FitRequest:
    """Members to fit on the same examples, one for each split and key, as one program where possible.

    `dynamics` gives each member settings of its own (arrays of leading axis m); None keeps those of the forecaster.
    Training state is kept under `folder`, so that the same request resumes where it was stopped.
    """

    examples: Examples
    splits: Sequence[Split]
    keys: Key[Array, " m"]
    dynamics: TracedHyperparameters | None = None
    folder: Path | None = None
    log: Log = silent

    def __len__(self) -> int:
        """The number of members."""
        return len(self.splits)

    @property
    def members(self) -> Iterator[tuple[int, Split, Key[Array, ""]]]:
        """Number, split and key of each member."""
        return zip(range(len(self)), self.splits, self.keys, strict=True)

    def at(self, places: Sequence[int] | np.ndarray) -> "FitRequest":
        """Return the request for the members at `places`, which may repeat."""
        places = np.asarray(places, int)
        dynamics = None if self.dynamics is None else jax.tree.map(lambda x: x[places], self.dynamics)
        return replace(self, splits=[self.splits[m] for m in places], keys=self.keys[places], dynamics=dynamics)

    def setting_aside(self, aside: Sequence[Bool[np.ndarray, " n"]]) -> "FitRequest":
        """Return the request in which the subjects set `aside` for each member do not stop its training."""
        pairs = zip(self.splits, aside, strict=True)
        return replace(self, splits=[replace(split, validation=split.validation & ~out) for split, out in pairs])

    def within(self, name: str) -> "FitRequest":
        """Return the request whose training state is kept in a folder `name` within this one's."""
        return replace(self, folder=self.folder and self.folder / name)

    def numbered_from(self, first: int, **facts: object) -> "FitRequest":
        """Return the request whose members are logged as number `first` onwards, with further `facts`."""
        return replace(self, log=lambda row: self.log({**row, "member": first + row["member"], **facts}))


class Fits:
    """Fits of one forecaster; the log receives how many of `all` are done."""

    def __init__(self, log: Log, all: int):
        self._log, self._all, self._done = log, all, 0

    def done(self, member: int, fits: int) -> None:
        """Add `fits` of this member; where there are fewer subjects than folds, the last ones come early."""
        self._done = min(self._done + fits, self._all)
        self._log({"member": member, "done": self._done, "of": self._all})
