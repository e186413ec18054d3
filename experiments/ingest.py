"""Bring a cohort in, or verify one: `python -m experiments.ingest data=oasis2`."""

from framework.cli.command import command


@command("ingest")
def main(config) -> None:
    """Ingest and verify, or verify alone."""
    # loaded here, so that --help answers at once
    import sys

    from hydra.utils import instantiate

    from framework.data.cohort.ledger import Ledger
    from framework.data.cohort.store import verify
    from framework.data.ingest.base import LEDGER, ingest
    from framework.errors import UserError

    store = config.data.store
    if config.action not in ("ingest", "verify"):
        raise UserError(f"action is {config.action!r}; expected ingest or verify")
    if config.action == "ingest":
        shown = (lambda number: print(f"\rsubject {number} ", end="", file=sys.stderr)) if sys.stderr.isatty() else None
        ingest(instantiate(config.data.reader, _convert_="all"), store, config.existing, shown)
        print(Ledger.read(f"{store}/{LEDGER}").summary())
        print(f"store:  {store}\nledger: {store}/{LEDGER}")
    problems = list(verify(store, _folder(config.data.path)))
    for problem in problems:
        print(problem)
    if problems:
        raise UserError(f"{store} has {len(problems)} faults, listed above; ingest it anew with existing=overwrite")
    print("verify: every scan and table is as it was written, and every source file as it was read")


def _folder(path: str | None) -> str | None:
    """Where the source files lie; None for data without any (a simulation)."""
    from framework.data.ingest.tables.table_file import locate

    if path is None:
        return None
    found = locate(path)
    return str(found if found.is_dir() else found.parent)


if __name__ == "__main__":
    main()
