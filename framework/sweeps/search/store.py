"""A study on disk: opened by one process at a time, and only by the search that it was made for."""

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


def digest(what: Mapping[str, object]) -> str:
    """A name for what is searched: the same command finds its own study again."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


@contextmanager
def opened(file: Path, what: Mapping[str, object], objectives: int) -> Iterator[optuna.Study]:
    """Open the study in a file of SQLite, made where there is none, while other processes are kept from it.

    Raise UserError where the file cannot be written, is something else, belongs to another search (`what` says which
    it is), or is in use.
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
            why = str(error.__cause__ or error).splitlines()[0]
            raise UserError(
                f"cannot keep a search in {file} ({why}); choose another place with hydra.sweeper.storage=..."
            ) from error
        try:
            _same(file, study, what)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _same(file: Path, study: optuna.Study, what: Mapping[str, object]) -> None:
    there: dict[str, object] = study.user_attrs.get("what", {})
    if not there and not study.trials:
        study.set_user_attr("what", dict(what))
        return
    for key in sorted({*there, *what}):
        mine, its = what.get(key), there.get(key)
        if mine != its:
            raise UserError(
                f"the search in {file} is another one: it has {key}={json.dumps(its)}, this has {json.dumps(mine)}; "
                "give this one a storage or a sweep folder of its own"
            )
