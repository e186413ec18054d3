"""SIGINT and SIGTERM: an orderly stop, and soon an end all the same where the program is deep in a computation."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

AGAIN = 255  # no signal has this number
GRACE = 1.0  # seconds for an orderly stop
LINES = {
    signal.SIGINT: "interrupted; the same command goes on from the last checkpoint",
    signal.SIGTERM: "stopped by SIGTERM; the same command goes on from the last checkpoint",
}
REASONS = {signal.SIGINT: "interrupted by SIGINT", signal.SIGTERM: "stopped by SIGTERM"}

Mark = Callable[[str], None]


class Stop:
    """Inside a `with`, either signal raises (KeyboardInterrupt, SystemExit) where Python runs. Where it does not, in a
    compiled program or while one is compiled, a thread waits for GRACE, has `mark(reason)` called, says so in one line
    and ends the process: as after SIGKILL, all that is on disk is whole. A second signal ends it at once. Where Python
    drops what the handler raised, as in a callback of the garbage collector, it is raised again a moment later.

    Inside another one it only adds its mark. Only the main thread can listen, and only where nobody else does.
    """

    def __init__(self, mark: Mark | None = None):
        self.said = False  # the line, by somebody else
        self.heard = False
        self._marks = [] if mark is None else [mark]
        self._host: Stop | None = None
        self._before: dict[signal.Signals, object] = {}
        self._number = signal.SIGTERM  # what was heard
        self._repeated = 0  # signals raised again, which are no second ones

    def __enter__(self) -> "Stop":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._host = _listening()
        if self._host is not None:
            self._host._marks += self._marks
            return self
        self._told, self._tells = socket.socketpair()
        self._tells.setblocking(False)
        self._descriptor = signal.set_wakeup_fd(self._tells.fileno(), warn_on_full_buffer=False)
        for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == usual:
                self._before[number] = signal.signal(number, self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._host is not None:
            for mark in self._marks:
                self._host._marks.remove(mark)
        elif hasattr(self, "_thread"):
            sys.unraisablehook = self._hook
            signal.set_wakeup_fd(self._descriptor)
            for number, handler in self._before.items():
                if signal.getsignal(number) == self._raise:
                    signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
            self._tells.send(b"\0")
            if not self.heard:
                self._thread.join(GRACE)  # that of a signal just heard goes on, until the process has ended

    def leave(self, code: int) -> None:
        """End the program after an orderly stop. Where a signal was heard the process ends here: the interpreter would
        free what a compilation that still goes on in a thread of its own uses, and crash.
        """
        if self.heard:
            for child in multiprocessing.active_children():
                child.terminate()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)

    def end(self, reason: str, code: int, line: str | None = None) -> None:
        """Mark all that is under way, and end the process."""
        for mark in list(self._marks):
            mark(reason)
        if line is not None and not self.said:
            cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a bar may have hidden
            os.write(2, f"{cursor}{line}\n".encode())
        os._exit(code)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(LINES[signal.SIGTERM])

    def _unraisable(self, found: "sys.UnraisableHookArgs") -> None:
        """What Python drops: raise a stop of ours again, leave the rest to whoever had it."""
        if not self.heard or found.exc_type not in (KeyboardInterrupt, SystemExit):
            return self._hook(found)
        self._tells.send(bytes([AGAIN]))  # raised here it would be dropped as well

    def _watch(self) -> None:
        """The thread: wait for a signal, then for the orderly stop."""
        number = self._next(None)
        if number is None:
            return
        self.heard = True
        self._next(GRACE)
        self.end(REASONS[number], 128 + number, LINES[number])

    def _next(self, seconds: float | None) -> signal.Signals | None:
        """The signal that comes next; None where time is up, or before any signal the listening."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self._told.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
            try:
                [byte] = self._told.recv(1)
            except TimeoutError:
                return None
            if byte == AGAIN:
                time.sleep(0.01)
                self._repeated += 1
                os.kill(os.getpid(), self._number)
            elif byte in LINES and self._repeated:
                self._repeated -= 1
            elif byte in LINES:
                self._number = signal.Signals(byte)
                return self._number
            if byte == 0 and deadline is None:
                return None


def _listening() -> Stop | None:
    """Whoever listens already, as the system's table of handlers knows."""
    for number in LINES:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, Stop):
            return owner
    return None
