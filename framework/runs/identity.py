"""The identity of a run: the settings that change its results, and the contents of the files that they name."""

import hashlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from framework.forecast.deep.pretrained import SEEN

# Every setting that changes no result, by its dotted key (`*` stands for any part before it), and why.
FREE = {
    "runs": "where runs lie",
    "hydra": "how jobs are launched and swept",
    "trust": "which packages a configuration may name",
    "hosts": "which computers share the work",
    "report": "whether the page is drawn at once",
    "tracking": "where else results are copied to",
    "accept": "with which exit code a finished run ends",
    "*.cache_bytes": "how many prepared scans stay in memory",
    "*.checkpoint_seconds": "how much work a killed run loses",
    "*.checkpoint_steps": "how much work a killed run loses",
    "*.gigabytes": "how many fits go side by side, and which are refused",
}
# What a cohort was made from; the fingerprint of the cohort says what it is.
SOURCES = {
    "data.store": "where the cohort lies",
    "data.path": "where its source lies",
    "data.table": "where its table lies",
    "data.leaderboard": "where its leaderboard lies",
    "data.reader": "how it was read",
}
# What acts through the recipes of the fitted models alone, which a run's configuration holds under `fitted`.
COMPOSED = {
    "model": "the recipe under study",
    "optimizer": "training of the recipes that refer to it",
    "mesh": "devices of the trainings that refer to it",
    "settings": "overrides from which recipes are composed",
}
# Files of folds and runs of pretraining, which are read while fitting: what they hold counts, not where they lie.
READ = ("split.path", "*.pretrained")


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's resolved configuration (plain containers) changes its results, its cohort's fingerprint apart."""
    fitted = config.get("fitted")
    composed = COMPOSED if isinstance(fitted, Mapping) else ()
    kept = {key: _contents(value, key) for key, value in without(config, (*FREE, *SOURCES, *composed)).items()}
    # the last one is the one under study: their order counts, which a mapping does not keep
    return kept | ({"fitted in order": list(fitted)} if isinstance(fitted, Mapping) else {})


def without(config: Mapping[str, Any], keys: Collection[str], under: str = "") -> dict[str, Any]:
    """A nested configuration less what has these dotted keys."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        place = f"{under}{key}"
        if not _among(place, keys):
            kept[key] = without(value, keys, f"{place}.") if isinstance(value, Mapping) else value
    return kept


def digest_of(*paths: Path) -> str:
    """SHA-256 over files, and over all files under folders, by their names there."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(f"{file.relative_to(path)} {file.stat().st_size} ".encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def _contents(value: Any, place: str) -> Any:
    """The same with digests in place of what is read; where that is absent, whoever reads it says so."""
    if isinstance(value, Mapping):
        return {key: _contents(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, str) and _among(place, READ) and (path := Path(value)).exists():
        return digest_of(path) if path.is_file() else digest_of(path / "encoders", path / SEEN)
    return value


def _among(place: str, keys: Collection[str]) -> bool:
    return any(fnmatchcase(place, key) for key in keys)
