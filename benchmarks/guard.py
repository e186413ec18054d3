"""A command in a process of its own, under an audit hook that records executions and writes.

The process is forked from one that has imported the commands, so that hundreds take minutes. Recorded are files opened
for writing, created, moved or removed outside the allowed folders, imports of modules of a payload, programs started,
libraries loaded, pickles that name a class, environment variables, and connections.
"""

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {  # events, and the arguments that are changed paths
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.rename": (0, 1),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "shutil.rmtree": (0,),
    "shutil.move": (0, 1),
    "shutil.copyfile": (1,),
    "shutil.copytree": (1,),
}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn"}
OTHER = {"pickle.find_class", "socket.connect", "webbrowser.open", "ctypes.dlsym/handle"}
HERE = Path(__file__).parents[1]
OURS = ("git", ["git", "-C", str(HERE), "rev-parse", "HEAD"])  # a run records its commit
PAYLOAD_MODULES = ("evil", "mypackage", "hostile_")  # prefixes of the modules of payloads
VARIABLES = ("CXX", "XDG_CACHE_HOME", "LD_PRELOAD", "PATH", "PYTHONPATH", "HOSTILE")
SECONDS = 300  # of processor time for one command


@dataclass
class Seen:
    """Observations of a command: exit code, output, and forbidden executions and writes."""

    code: int | None
    out: str
    err: list[str]
    executed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)

    @property
    def silent(self) -> bool:
        """Whether it ended without output, or by a signal."""
        return self.code is None or not (self.out.strip() or self.err)

    @property
    def refused(self) -> bool:
        """Whether it ended with one line of error."""
        errors = [line for line in self.err if line.startswith("error: ")]
        return (
            self.code == 1
            and len(errors) == 1
            and errors == self.err[-1:]
            and not any("Traceback" in line for line in self.err)
        )


def guarded(command: Callable[[], object], arguments: Sequence[str], folder: Path, home: Path) -> Seen:
    """Run a command in `folder`; it may write there and in `home` only."""
    for name in ("out", "err", "seen"):
        (home / name).unlink(missing_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(command, arguments, folder, home)
    _, status = os.waitpid(child, 0)
    noted = json.loads((home / "seen").read_text()) if (home / "seen").exists() else {}
    code = os.waitstatus_to_exitcode(status)
    return Seen(
        code if code >= 0 and noted else None,
        (home / "out").read_text(errors="replace"),
        (home / "err").read_text(errors="replace").splitlines(),
        **noted,
    )


def _child(command: Callable[[], object], arguments: Sequence[str], folder: Path, home: Path) -> None:
    """Run the command in the child process, which exits."""
    code = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        os.chdir(folder)
        os.environ |= {"HOME": str(home), "TMPDIR": str(home), "XDG_CACHE_HOME": str(home)}
        sys.dont_write_bytecode, sys.argv = True, ["command", *arguments]
        sys.path.insert(0, str(folder))
        noted = Seen(None, "", [])
        watch = _Watch((folder, home), noted)
        sys.addaudithook(watch)
        try:
            command()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1 if ended.code else 0
        except BaseException:
            traceback.print_exc()
            code = 70
        watch.over = True
        sys.stdout.flush()
        sys.stderr.flush()
        kept: Mapping = asdict(noted)
        (home / "seen").write_text(json.dumps({name: kept[name] for name in ("executed", "written")}))
    finally:
        os._exit(code)


class _Watch:
    """The audit hook; it records events without blocking them."""

    def __init__(self, allowed: Sequence[Path], noted: Seen):
        self._allowed = [os.path.realpath(one) for one in allowed]
        self._noted, self.over = noted, False

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.over:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and (flags or 0) & WRITING:
                self._change(event, path)
            return
        for place in CHANGES.get(event, ()):
            if len(arguments) > place and isinstance(arguments[place], (str, bytes, os.PathLike)):
                self._change(event, arguments[place])
        if event == "import" and str(arguments[0]).split(".")[0].startswith(PAYLOAD_MODULES):
            self._noted.executed.append(f"import {arguments[0]}")
        elif event == "exec" and self._inside(getattr(arguments[0], "co_filename", "")):
            self._noted.executed.append(f"exec {arguments[0].co_filename}")
        elif event == "ctypes.dlopen" and self._inside(arguments[0] or ""):
            self._noted.executed.append(f"dlopen {arguments[0]}")
        elif (event in STARTS or event in OTHER) and arguments[:2] != OURS:
            self._noted.executed.append(f"{event} {arguments!r}"[:200])
        elif event == "os.putenv" and os.fsdecode(arguments[0]).startswith(VARIABLES):
            self._noted.executed.append(f"putenv {arguments[0]!r}")

    def _inside(self, path: object) -> bool:
        """Whether a file belongs to the payload."""
        named = os.fsdecode(path) if isinstance(path, (str, bytes)) else ""
        real = os.path.realpath(named) if named and not named.startswith("<") else ""
        return any(real.startswith(f"{one}/") for one in self._allowed)

    def _change(self, event: str, path: str | bytes | os.PathLike) -> None:
        real = os.path.realpath(os.fsdecode(path))
        if real != os.devnull and not any(real == one or real.startswith(f"{one}/") for one in self._allowed):
            self._noted.written.append(f"{event} {real}")
