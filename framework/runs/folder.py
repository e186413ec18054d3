"""A run's folder, found again by what the run is made of."""

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax
import yaml

import framework
from framework import digests
from framework.config.quoting import pasted
from framework.errors import UserError
from framework.files import explain_unwritable, lock_folder, write_atomic
from framework.runs.identity import identity
from framework.train.stopping import REASONS, Stop

SOURCES = (".py", ".cc", ".h")
# what is written after a run's results are sealed: how it stands, its report, and what an interrupted run goes on from
UNSEALED = (
    "status.json",
    *("report.html", "tables", "methods.md", "methods.tex", "references.bib"),
    *("checkpoints", "tested"),
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "xarray", "zarr")


@dataclass(frozen=True)
class RunFolder:
    """`<runs>/<experiment>/<hash>`, found again by the same command.

    The hash is over the settings that change results (`framework.runs.identity`), the data and our sources.
    """

    path: Path

    @staticmethod
    def of(config: Mapping, fingerprint: str) -> "RunFolder":
        """The folder of a resolved config (plain containers) on data of that fingerprint; nothing is made yet."""
        text = json.dumps([identity(config), fingerprint, sources_digest()], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return RunFolder(Path(config["runs"]) / config["experiment"] / digest)

    @property
    def finished(self) -> bool:
        return self.manifest().get("finished") is not None

    def manifest(self) -> dict:
        """What it says of itself. Raises UserError where that is damaged."""
        file = self.path / "manifest.json"
        if not file.exists():
            return {}
        try:
            return dict(json.loads(file.read_bytes()))
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is damaged; delete {self.path} and give the same command again") from error

    def start(self, config: Mapping, facts: Mapping) -> None:
        """Make the folder, with the config and the manifest; what an earlier attempt left stays, to go on from."""
        known = {**_environment(), **facts}
        with explain_unwritable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            digests.unseal(self.path)
            write_atomic(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            write_atomic(self.path / "manifest.json", json.dumps(known, indent=1))

    def note(self, **facts: object) -> None:
        """Add to the manifest."""
        write_atomic(self.path / "manifest.json", json.dumps({**self.manifest(), **facts}, indent=1))

    def status(self) -> dict:
        """How it stands: its state (running, finished, stopped, failed), since when, in which process, and why."""
        file = self.path / "status.json"
        try:
            return dict(json.loads(file.read_bytes())) if file.exists() else {}
        except (ValueError, TypeError):  # written over on a full disk by a process that was killed: it says nothing
            return {}

    def stands(self, state: str, **facts: object) -> None:
        """Say how it stands; how often its process was `killed` before stays known."""
        before = self.status()
        died = before.get("state") == "running" and before.get("process") != os.getpid()
        if killed := before.get("killed", 0) + died:
            facts = {"killed": killed} | facts
        known = {"state": state, "since": datetime.now(UTC).isoformat(timespec="seconds"), "process": os.getpid()}
        told, file = json.dumps(known | facts), self.path / "status.json"
        try:
            write_atomic(file, told)
        except OSError:  # a full disk has no room for another file, but the one that is there has its block
            if not file.exists():
                raise
            with file.open("r+") as old:
                old.write(told)
                old.truncate()

    @contextmanager
    def underway(self, **facts: object) -> Iterator[None]:
        """Running, then stopped or failed where what happens inside does not end well, even within a computation."""
        with Stop(self._stopped):
            self.stands("running", **facts)
            try:
                yield
            except BaseException as error:
                with suppress(OSError):  # the place is gone; what is told is why it failed
                    if isinstance(error, KeyboardInterrupt):
                        self._stopped(REASONS[signal.SIGINT])
                    elif isinstance(error, SystemExit):
                        self._stopped(str(error))
                    else:
                        self.stands("failed", reason=" ".join(f"{type(error).__name__}: {error}".split()))
                raise

    @contextmanager
    def watched(self) -> Iterator[None]:
        """The status file tells of what happens inside; whoever is killed by SIGKILL is left as running."""
        with self.underway():
            yield
            self.stands("finished")

    def _stopped(self, reason: str) -> None:
        self.stands("finished") if self.finished else self.stands("stopped", reason=reason)

    def seal(self) -> None:
        """Write the digests of all results; from now on whoever reads one compares it."""
        digests.seal(self.path, UNSEALED)

    def check(self, *names: str) -> None:
        """Raise UserError unless these files (all that are sealed where none is named) are those that were written."""
        digests.check(self.path, *names)

    def finish(self) -> None:
        """Say that all is there, sealed; from now on the run is shown, not made."""
        self.note(finished=datetime.now(UTC).isoformat(timespec="seconds"))

    def once(self, config: Mapping, facts: Mapping, make: Callable[[], None]) -> None:
        """Have the run made unless it is finished: `make()` in the folder claimed, its status kept, then finished.

        What an earlier attempt left is there to go on from.
        """
        if self.finished:
            return self.settle()
        with lock_folder(self.path):
            if not self.finished:  # still, after whoever had the folder before
                self.start(config, facts)
                with self.watched():
                    make()
                    self.seal()
                    self.finish()

    def settle(self) -> None:
        """Correct the status of a run that was killed between its last two words."""
        if self.status().get("state") not in (None, "finished"):
            self.stands("finished")


@cache
def sources_digest() -> str:
    """SHA-256 over the framework's own modules and native kernels, as this process first saw them."""
    return digest(Path(framework.__file__).parent)


def digest(root: Path) -> str:
    """SHA-256 over the sources under a folder."""
    total = hashlib.sha256()
    for file in sorted(file for file in root.rglob("*") if file.suffix in SOURCES):
        total.update(str(file.relative_to(root)).encode())
        total.update(file.read_bytes())
    return total.hexdigest()


def _environment() -> dict:
    device = jax.devices()[0]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "commit": _commit(),
        "versions": _versions(),
        "python": platform.python_version(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }


def command_line() -> str:
    """The command as it can be typed again."""
    main = sys.modules["__main__"].__spec__
    program = f"python -m {main.name.removesuffix('.__main__')}" if main else Path(sys.argv[0]).name
    return " ".join([program, pasted(sys.argv[1:])]).strip()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("prognax", *PACKAGES)}


@cache
def _commit() -> str | None:
    """The commit of the checkout the framework runs from; None where there is none, or no git to ask."""
    root = Path(framework.__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    asked = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None
