"""What a study keeps of one forecaster once it was tested, so that a study that was stopped need not fit it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from framework.train.whole import whole


@dataclass(frozen=True)
class Tested:
    """A forecaster's answers to every question about the tested subjects, by target, and what is to be told of it.

    `facts` are what its training cost (None: nothing to tell), which candidate each member chose, what its reader is to
    be warned of, and whether it was blind to the future.
    """

    answers: Mapping[str, Float[np.ndarray, "r n q p"]]
    facts: Mapping

    def save(self, file: Path) -> None:
        """Write it so that it is there whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        told = {f"answer {target}": numbers for target, numbers in self.answers.items()}
        with whole(file, "wb") as new:
            np.savez(new, allow_pickle=False, facts=np.array(json.dumps(self.facts)), **told)

    @staticmethod
    def load(file: Path) -> "Tested | None":
        """What `save` wrote; None where it wrote nothing."""
        if not file.exists():
            return None
        with np.load(file) as kept:
            told = {name.removeprefix("answer "): kept[name] for name in kept.files if name != "facts"}
            return Tested(told, json.loads(str(kept["facts"])))
