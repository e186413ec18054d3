"""Optuna study on disk, opened by one process at a time and only for the search that it was made for."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import optuna
from sqlalchemy.exc import SQLAlchemyError

from framework.errors import UserError
from framework.files import lock_file

FILE = "search.db"
NAME = "search"


def digest(identity: Mapping[str, object]) -> str:
    """Return a name of a search, by which the same command finds its study again."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def open_study(file: Path, identity: Mapping[str, object], objectives: int) -> Iterator[optuna.Study]:
    """Open the study in a file of SQLite, made where there is none, while other processes are kept from it.

    Raise UserError where the file cannot be written, is not a study, belongs to another search than that of
    `identity`, or is in use.
    """
    with lock_file(file, "hydra.sweeper.storage"):
        try:
            storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
            study = optuna.create_study(
                storage=storage,
                study_name=NAME,
                directions=[optuna.study.StudyDirection.MINIMIZE] * objectives,
                load_if_exists=True,
            )
        except (SQLAlchemyError, RuntimeError, ValueError) as error:  # of no SQLite, of another version or objectives
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(
                f"cannot keep a search in {file} ({reason}); choose another place with hydra.sweeper.storage=..."
            ) from error
        try:
            _require_same_search(file, study, identity)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _require_same_search(file: Path, study: optuna.Study, identity: Mapping[str, object]) -> None:
    saved: dict[str, object] = study.user_attrs.get("identity", {})
    if not saved and not study.trials:
        study.set_user_attr("identity", dict(identity))
        return
    for key in sorted({*saved, *identity}):
        got, expected = identity.get(key), saved.get(key)
        if got != expected:
            raise UserError(
                f"the search in {file} has {key}={json.dumps(expected)}, this one {json.dumps(got)}; "
                "give this search a storage or a sweep folder of its own"
            )
