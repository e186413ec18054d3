"""Identity of a run: the settings that change its results, and the contents of the files that they name."""

import hashlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from framework.forecast.deep.pretrained import SEEN

# Settings that change no result, by dotted key (`*` matches any part before it), and their effect.
IRRELEVANT_KEYS = {
    "runs": "where runs lie",
    "hydra": "how jobs are launched and swept",
    "trust": "which packages a configuration may name",
    "hosts": "which computers share the work",
    "report": "whether the page is drawn at once",
    "tracking": "further places to which results are copied",
    "allow_leaks": "the exit code of a finished run",
    "*.cache_bytes": "how many prepared scans stay in memory",
    "*.checkpoint_seconds": "how much work a killed run loses",
    "*.checkpoint_steps": "how much work a killed run loses",
    "*.max_memory_gb": "how many fits go side by side, and which are refused",
}
# The sources of a cohort; the fingerprint of the cohort identifies its content.
COHORT_KEYS = {
    "data.store": "where the cohort lies",
    "data.path": "where its source lies",
    "data.table": "where its table lies",
    "data.leaderboard": "where its leaderboard lies",
    "data.reader": "how it was read",
}
# Keys that act only through the fitted models, whose configurations a run holds under `fitted`.
COMPOSED_KEYS = {
    "model": "the model under study",
    "training": "training of the models that refer to it",
    "mesh": "devices of the trainings that refer to it",
    "model_overrides": "overrides from which models are composed",
}
# Files of folds and runs of pretraining, read while fitting: their contents count, not their paths.
FILE_KEYS = ("split.path", "*.pretrained")


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's resolved configuration (plain containers) that changes its results."""
    fitted = config.get("fitted")
    composed = COMPOSED_KEYS if isinstance(fitted, Mapping) else ()
    relevant = {
        key: _replace_files(value, key)
        for key, value in drop_keys(config, (*IRRELEVANT_KEYS, *COHORT_KEYS, *composed)).items()
    }
    # the last model is the one under study: their order counts, which a sorted mapping loses
    return relevant | ({"fitted in order": list(fitted)} if isinstance(fitted, Mapping) else {})


def drop_keys(config: Mapping[str, Any], keys: Collection[str], under: str = "") -> dict[str, Any]:
    """Return a nested configuration without these dotted keys."""
    remaining: dict[str, Any] = {}
    for key, value in config.items():
        place = f"{under}{key}"
        if not _matches_any(place, keys):
            remaining[key] = drop_keys(value, keys, f"{place}.") if isinstance(value, Mapping) else value
    return remaining


def digest_files(*paths: Path) -> str:
    """Return the SHA-256 over files, and over all files under folders with their relative names."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(f"{file.relative_to(path)} {file.stat().st_size} ".encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def _replace_files(value: Any, place: str) -> Any:
    """Return the same configuration with digests in place of files; a missing file is reported by its reader."""
    if isinstance(value, Mapping):
        return {key: _replace_files(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, str) and _matches_any(place, FILE_KEYS) and (path := Path(value)).exists():
        return digest_files(path) if path.is_file() else digest_files(path / "encoders", path / SEEN)
    return value


def _matches_any(place: str, keys: Collection[str]) -> bool:
    return any(fnmatchcase(place, key) for key in keys)
