"""Parts that payloads are made of: an honest run, tables of visits, edited copies of the run, modules that destroy."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from framework.digests import seal

HEADER = "id,number,time,score,stage,age"

VARIABLES = {
    "score": {"roles": ["input", "target"], "units": "points"},
    "stage": {"roles": ["input", "target"], "levels": ["well", "ill"], "ordered": True},
    "age": {"roles": ["input", "future"], "units": "years", "per_year": 1},
}

QUICK = ("training.steps=4", "training.eval_every=2", "model.head.cell.features=4", "model.width=4", "resamples=100")

EVIL = """import os
open({mark!r}, "w").write("executed")
class Evil:
    def __init__(self, **more): os.remove({victim!r})
def run(**more): os.remove({victim!r})
"""

Bring = Callable[["Base", Path, Path], Sequence[str]]


@dataclass(frozen=True)
class Payload:
    """One attack: `bring(base, work, victim)` writes it into a folder and returns the arguments of the command."""

    group: str
    name: str
    bring: Bring
    command: str = "predict"
    refused: bool = True
    after: Callable[[Path], Sequence[str]] = lambda work: ()


@dataclass(frozen=True)
class Base:
    """An honest run, of which payloads are edited copies."""

    folder: Path
    run: Path

    @staticmethod
    def at(folder: Path) -> "Base":
        """Return the run in a folder, finished or not."""
        runs = sorted((folder / "runs" / "forecast").glob("*/config.yaml"))
        return Base(folder, runs[0].parent if runs else folder / "none")

    @property
    def finished(self) -> bool:
        return (self.run / "digests.json").exists()

    def commands(self) -> list[tuple[str, list[str]]]:
        """Commands that make the run."""
        write_table(self.folder / "visits.csv", table(12))
        words = [*table_overrides(self.folder / "visits.csv"), "model=gru", "split.folds=3", "report=false", *QUICK]
        return [("forecast", [*words, f"runs={self.folder}/runs", f"data.store={self.folder}/store"])]


def table(subjects: int, names: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Rows of visits of subjects with the given names, then s00, s01, ..."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(subjects):
        name = names[i] if i < len(names) else f"s{i:02}"
        for j in range(3):
            score = 25 + rng.normal(0, 3) - 2 * j
            time, stage = j + rng.uniform(0, 0.4) if j else 0, "ill" if score < 23 else "well"
            lines.append(f'"{name}",{j + 1},{time},{score:.2f},{stage},{70 + i + j}')
    return lines


def write_table(file: Path, lines: Sequence[str]) -> None:
    """Write rows under their header."""
    file.write_text("\n".join([HEADER, *lines]) + "\n")


def table_overrides(file: Path | str) -> list[str]:
    """Overrides with which a user describes the table."""
    words = ["data=table", f"data.path={file}", "data.reader.subject=id", "data.reader.order=number"]
    words += [f"+data.reader.variables.{name}={hydra_value(variable)}" for name, variable in VARIABLES.items()]
    return [*words, "data.targets=[score,stage]"]


def hydra_value(value: object) -> str:
    """A value as Hydra reads it on a command line."""
    return json.dumps(value).replace('"', "")


class NoAliases(yaml.SafeDumper):
    """A YAML dumper that writes a repeated object in full."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def received(edit: Callable[[dict, dict, Path, Path], str | None], *words: str) -> Bring:
    """Return an attack by a copy of the run, changed by `edit(config, manifest, run, victim)` and sealed again."""

    def bring(base: Base, work: Path, victim: Path) -> list[str]:
        run = shutil.copytree(base.run, work / "received")
        config, manifest = (
            yaml.safe_load((run / "config.yaml").read_text()),
            json.loads((run / "manifest.json").read_text()),
        )
        text = edit(config, manifest, run, victim)
        (run / "config.yaml").write_text(text or yaml.dump(config, Dumper=NoAliases, sort_keys=False))
        (run / "manifest.json").write_text(json.dumps(manifest))
        seal(run)
        write_evil_modules(work, victim)
        write_table(work / "new.csv", table(3, seed=1))
        return ["run=received", "data.path=new.csv", "ahead=[1]", *words]

    return bring


def write_evil_modules(work: Path, victim: Path) -> None:
    """Write modules that destroy files when they are imported or called."""
    text = EVIL.format(mark=str(victim / "executed"), victim=str(victim / "precious.txt"))
    (work / "evil.py").write_text(text)
    (work / "mypackage").mkdir(exist_ok=True)
    (work / "mypackage" / "__init__.py").write_text(text)
    (work / "mypackage" / "heads.py").write_text(text)


class Reduces:
    """A pickle that runs a line of shell."""

    def __init__(self, line: str):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)
