"""Results of one tested forecaster, saved so that a study that was stopped need not fit it again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from framework.digests import READ_ERRORS, digest_arrays
from framework.errors import UserError
from framework.files import open_atomic


@dataclass(frozen=True)
class ModelResults:
    """Forecasts of one forecaster for every query about the test subjects, by target, and their metadata.

    `metadata` holds the cost of training (None: not measured), the candidate that each member chose, warnings, the
    check of dependence on the future, and the digest of the saved model (None: not saved).
    """

    forecasts: Mapping[str, Float[np.ndarray, "r n q p"]]
    metadata: Mapping

    def save(self, file: Path) -> None:
        """Write the results in one atomic step."""
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"forecast {target}": numbers for target, numbers in self.forecasts.items()}
        header = {**_describe(file, arrays), "metadata": self.metadata}
        with open_atomic(file, "wb") as new:
            np.savez(new, allow_pickle=False, header=np.array(_with_digest(header)), **arrays)

    @staticmethod
    def load(file: Path) -> "ModelResults | None":
        """Read saved results; None where there are none. Raise UserError where they are not as they were written."""
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as archive:
                header = _check_digest(str(archive["header"]))
                arrays = {name: archive[name] for name in archive.files if name != "header"}
            expected = _describe(file, arrays)
            if expected != {name: header[name] for name in expected}:
                raise ValueError("it is not what was written")
        except READ_ERRORS as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{file} cannot be read ({reason}); delete it, and give the same command again") from error
        forecasts = {name.removeprefix("forecast "): numbers for name, numbers in arrays.items()}
        return ModelResults(forecasts, header["metadata"])


def _describe(file: Path, arrays: Mapping[str, np.ndarray]) -> dict:
    return {"model": file.stem, "digest": digest_arrays(arrays.values()), "arrays": list(arrays)}


def _with_digest(header: Mapping) -> str:
    text = json.dumps(header)
    return json.dumps([hashlib.sha256(text.encode()).hexdigest(), text])


def _check_digest(sealed: str) -> dict:
    digest, text = json.loads(sealed)
    if digest != hashlib.sha256(text.encode()).hexdigest():
        raise ValueError("its header is not what was written")
    return json.loads(text)
