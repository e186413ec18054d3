"""Tables joined to folders by name: no subject is lost because a prefix or leading zeros were."""

import re
from collections.abc import Collection, Iterable

from framework.data.cohort.ledger import Ledger
from framework.data.ingest.tables.table_file import Sheet
from framework.errors import UserError


def unprefixed(name: str) -> str:
    """A subject's label in one form: without its prefix, in lower case."""
    return name.removeprefix("sub-").casefold()


def bare(label: str) -> str:
    """A label without leading zeros, which tables are apt to lose."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", label)


def people_have_folders(
    sheet: Sheet, column: str, people: Collection[str], folders: Collection[str], ledger: Ledger
) -> None:
    """Raise UserError where no participant, or one who is nearly so called, has a folder; warn where some have none."""
    if not people:
        return
    alone = [person for person in people if person not in folders]
    near = {bare(unprefixed(name)): name for name in folders if name not in people}
    meant = [(person, near[bare(unprefixed(person))]) for person in alone if bare(unprefixed(person)) in near]
    if meant or len(alone) == len(people):
        likely = f"{meant[0][0]!r} is probably {meant[0][1]!r}" if meant else f"one is called {min(folders)!r}"
        raise UserError(
            f"{sheet.path}: {len(alone)} of {len(people)} participants have no folder of their name; {likely}: write "
            f"{column} as the folders are named"
        )
    without = [name for name in folders if name not in people]
    if alone or without:
        ledger.warn(
            f"{sheet.path.name}: {len(alone)} of {len(people)} participants have no folder, and {len(without)} of "
            f"{len(folders)} folders no row, so that what the table says is missing for them"
        )


def sessions_have_folders(sheet: Sheet, column: str, labels: Iterable[str]) -> None:
    """Raise UserError where a session of the table has no folder, but one that is nearly so called has no row."""
    folders, named = set(labels), {str(row.cells[column]) for row in sheet.rows if row.cells[column] is not None}
    near = {bare(folder.casefold()): folder for folder in folders - named}
    for session in sorted(named - folders):
        meant = near.get(bare(session.casefold()))
        if meant:
            raise UserError(
                f"{sheet.path}: {column} {session!r} has no folder, and is probably {meant!r}; write it as the folder "
                "is named"
            )
