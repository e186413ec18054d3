"""Tables whose cells are formulas to a spreadsheet, or that are no tables."""

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

from benchmarks.payloads.making import Base, Payload, table, write_table

FORMULAS = ("=cmd|'/C calc'!A0", "+1+cmd", "-2+3", "@SUM(1)", "\t=1", "＝1", " =1", "'=1", "=HYPERLINK(x)")


def payloads() -> Iterator[Payload]:
    """Payloads in tables of new subjects."""

    def formulas(work: Path) -> list[str]:
        found = []
        for file in work.rglob("*.csv"):
            if file.name == "new.csv" or file.name == "visits.csv":
                continue
            for line in file.read_text().splitlines():
                first = line.lstrip('"')
                if first[:1] in tuple("=+@\t＝") or (first[:1] == "-" and not first[1:2].isdigit()):
                    found.append(f"{file.name}: {line[:40]}")
        return ["taken"] if found else []

    for name in FORMULAS:

        def bring(base: Base, work: Path, victim: Path, name=name) -> list[str]:
            shutil.copytree(base.run, work / "received")
            write_table(work / "new.csv", table(3, [name], seed=1))
            return ["run=received", "data.path=new.csv", "ahead=[1]"]

        yield Payload("tables", f"a subject called {name!r}", bring, refused=False, after=formulas)
    contents = {
        "a pickle": pickle.dumps([1]),
        "nothing": b"",
        "a shell's line": b"#!/bin/sh\ntouch x\n",
        "NUL": b"id,time\n\x00,1\n",
        "one long line": b"id" * 2**20,
    }
    for name, content in contents.items():

        def bring(base: Base, work: Path, victim: Path, content=content) -> list[str]:
            shutil.copytree(base.run, work / "received")
            (work / "new.csv").write_bytes(content)
            return ["run=received", "data.path=new.csv", "ahead=[1]"]

        yield Payload("tables", f"a table of {name}", bring)
