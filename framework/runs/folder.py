"""Folder of a run, named by a hash of its configuration, data and sources."""

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
from framework.config.quoting import join_command
from framework.errors import UserError
from framework.files import explain_unwritable, lock_folder, write_atomic
from framework.runs.identity import identity
from framework.train.stopping import REASONS, Stop

SOURCE_SUFFIXES = (".py", ".cc", ".h")
# written after a run's results are sealed: its status, its report, and the state that an interrupted run resumes from
UNSEALED = (
    "status.json",
    *("report.html", "tables", "methods.md", "methods.tex", "references.bib"),
    *("checkpoints", "model_results"),
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
        """Return the folder of a resolved config (plain containers) on data of that fingerprint, without making it."""
        text = json.dumps([identity(config), fingerprint, sources_digest()], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return RunFolder(Path(config["runs"]) / config["experiment"] / digest)

    @property
    def finished(self) -> bool:
        return self.manifest().get("finished") is not None

    def manifest(self) -> dict:
        """Read the manifest, empty where there is none. Raise UserError where it is damaged."""
        file = self.path / "manifest.json"
        if not file.exists():
            return {}
        try:
            return dict(json.loads(file.read_bytes()))
        except (ValueError, TypeError) as error:
            raise UserError(f"{file} is damaged; delete {self.path} and give the same command again") from error

    def start(self, config: Mapping, facts: Mapping) -> None:
        """Make the folder with config and manifest; files of an earlier attempt stay, for this one to resume from."""
        manifest = {**_environment(), **facts}
        with explain_unwritable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            digests.unseal(self.path)
            write_atomic(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))
            write_atomic(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def update_manifest(self, **facts: object) -> None:
        """Add to the manifest."""
        write_atomic(self.path / "manifest.json", json.dumps({**self.manifest(), **facts}, indent=1))

    def status(self) -> dict:
        """Read the status: state (running, finished, stopped, failed, killed), since when, process and reason."""
        file = self.path / "status.json"
        try:
            return dict(json.loads(file.read_bytes())) if file.exists() else {}
        except (ValueError, TypeError):  # overwritten on a full disk by a process that was killed
            return {}

    def set_status(self, state: str, **facts: object) -> None:
        """Write the status; `killed` counts how often a process of the run was killed."""
        previous = self.status()
        died = previous.get("state") == "running" and previous.get("process") != os.getpid()
        if killed := previous.get("killed", 0) + died:
            facts = {"killed": killed} | facts
        status = {"state": state, "since": datetime.now(UTC).isoformat(timespec="seconds"), "process": os.getpid()}
        text, file = json.dumps(status | facts), self.path / "status.json"
        try:
            write_atomic(file, text)
        except OSError:  # a full disk has no room for another file, but the existing one has its block
            if not file.exists():
                raise
            with file.open("r+") as old:
                old.write(text)
                old.truncate()

    @contextmanager
    def track_running(self, **facts: object) -> Iterator[None]:
        """Set the status to running, then to stopped or failed where the block raises or the process is stopped."""
        with Stop(self._mark_stopped):
            self.set_status("running", **facts)
            try:
                yield
            except BaseException as error:
                with suppress(OSError):  # the folder is gone; the error itself is reported
                    if isinstance(error, KeyboardInterrupt):
                        self._mark_stopped(REASONS[signal.SIGINT])
                    elif isinstance(error, SystemExit):
                        self._mark_stopped(str(error))
                    else:
                        self.set_status("failed", reason=" ".join(f"{type(error).__name__}: {error}".split()))
                raise

    @contextmanager
    def track_status(self) -> Iterator[None]:
        """Keep the status while the block runs; a process killed by SIGKILL stays recorded as running."""
        with self.track_running():
            yield
            self.set_status("finished")

    def _mark_stopped(self, reason: str) -> None:
        self.set_status("finished") if self.finished else self.set_status("stopped", reason=reason)

    def seal(self) -> None:
        """Write the digests of all results, which every later reader compares."""
        digests.seal(self.path, UNSEALED)

    def check(self, *names: str) -> None:
        """Raise UserError unless these files (by default all sealed ones) are as they were written."""
        digests.check(self.path, *names)

    def finish(self) -> None:
        """Mark the run as complete and sealed; from now on it is shown, not made."""
        self.update_manifest(finished=datetime.now(UTC).isoformat(timespec="seconds"))

    def run_once(self, config: Mapping, facts: Mapping, make: Callable[[], None]) -> None:
        """Call `make()` in the locked folder, with the status kept, unless the run is finished already.

        `make` may resume from the files of an earlier attempt.
        """
        if self.finished:
            return self.repair_status()
        with lock_folder(self.path):
            if not self.finished:  # the previous holder of the lock may have finished it
                self.start(config, facts)
                with self.track_status():
                    make()
                    self.seal()
                    self.finish()

    def repair_status(self) -> None:
        """Correct the status of a finished run that was killed before its status was written."""
        if self.status().get("state") not in (None, "finished"):
            self.set_status("finished")


@cache
def sources_digest() -> str:
    """Return the SHA-256 over the framework's own modules and native kernels, as this process first read them."""
    return digest_sources(Path(framework.__file__).parent)


def digest_sources(root: Path) -> str:
    """Return the SHA-256 over the sources under a folder."""
    total = hashlib.sha256()
    for file in sorted(file for file in root.rglob("*") if file.suffix in SOURCE_SUFFIXES):
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
    """Return the command of this process, quoted for a shell."""
    main = sys.modules["__main__"].__spec__
    name = main.name.removesuffix(".__main__") if main else ""
    if sys.argv[0].startswith("experiments."):  # set by `prognax <task>`
        name = sys.argv[0]
    program = f"python -m {name}" if name else Path(sys.argv[0]).name
    return " ".join([program, join_command(sys.argv[1:])]).strip()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("prognax", *PACKAGES)}


@cache
def _commit() -> str | None:
    """Return the commit of the checkout that the framework runs from; None without a checkout or git."""
    root = Path(framework.__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    result = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
