"""What a study keeps of one forecaster once it was tested, so that a study that was stopped need not fit it again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from framework.digests import UNREADABLE, digest_of
from framework.errors import UserError
from framework.files import open_atomic


@dataclass(frozen=True)
class Tested:
    """A forecaster's answers to every question about the tested subjects, by target, and what is to be told of it.

    `facts` are what its training cost (None: nothing to tell), which candidate each member chose, what its reader is to
    be warned of, whether it was blind to the future, and the digest of what was saved of it (None: nothing).
    """

    answers: Mapping[str, Float[np.ndarray, "r n q p"]]
    facts: Mapping

    def save(self, file: Path) -> None:
        """Write it so that it is there whole or not at all."""
        file.parent.mkdir(parents=True, exist_ok=True)
        told = {f"answer {target}": numbers for target, numbers in self.answers.items()}
        about = {"of": file.stem, "digest": digest_of(told.values()), "answers": list(told), "facts": self.facts}
        with open_atomic(file, "wb") as new:
            np.savez(new, allow_pickle=False, facts=np.array(_sealed(about)), **told)

    @staticmethod
    def load(file: Path) -> "Tested | None":
        """What `save` wrote; None where it wrote nothing. Raises UserError where it is not what was written."""
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as kept:
                about, told = (
                    _unsealed(str(kept["facts"])),
                    {name: kept[name] for name in kept.files if name != "facts"},
                )
            found = {"of": file.stem, "digest": digest_of(told.values()), "answers": list(told)}
            if found != {name: about[name] for name in found}:
                raise ValueError("it is not what was written")
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{file} cannot be read ({reason}); delete it, and give the same command again") from error
        return Tested({name.removeprefix("answer "): numbers for name, numbers in told.items()}, about["facts"])


def _sealed(about: Mapping) -> str:
    text = json.dumps(about)
    return json.dumps([hashlib.sha256(text.encode()).hexdigest(), text])


def _unsealed(told: str) -> dict:
    digest, text = json.loads(told)
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError("its facts are not what was written")
    return json.loads(text)
