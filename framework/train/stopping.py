"""SIGINT and SIGTERM: an orderly stop, or the end of the process where a computation does not return in time."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType

RERAISE = 255  # no signal has this number
GRACE = 1.0  # seconds for an orderly stop
MESSAGES = {
    signal.SIGINT: "interrupted; the same command goes on from the last checkpoint",
    signal.SIGTERM: "stopped by SIGTERM; the same command goes on from the last checkpoint",
}
REASONS = {signal.SIGINT: "interrupted by SIGINT", signal.SIGTERM: "stopped by SIGTERM"}

Mark = Callable[[str], None]


class Stop:
    """Context in which either signal raises (KeyboardInterrupt, SystemExit) where Python runs.

    Where it does not, in a compiled program or while one is compiled, a thread waits for GRACE, calls `mark(reason)`,
    prints one line and ends the process: as after SIGKILL, all files on disk are complete. A second signal ends it at
    once. Where Python drops the exception of the handler, as in a callback of the garbage collector, it is raised again
    a moment later.

    A nested context only adds its mark. Signals are handled in the main thread alone, and only with default handlers.
    """

    def __init__(self, mark: Mark | None = None):
        self.reported = False  # the line was printed by the caller
        self.received = False
        self._marks = [] if mark is None else [mark]
        self._host: Stop | None = None
        self._before: dict[signal.Signals, object] = {}
        self._number = signal.SIGTERM  # the signal received
        self._repeated = 0  # signals raised again, not second signals

    def __enter__(self) -> "Stop":
        if threading.current_thread() is not threading.main_thread():
            return self
        self._host = _active_stop()
        if self._host is not None:
            self._host._marks += self._marks
            return self
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._descriptor = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == default:
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
            self._sender.send(b"\0")
            if not self.received:
                self._thread.join(GRACE)  # the thread of a signal just received goes on until the process has ended

    def exit(self, code: int) -> None:
        """End the program after an orderly stop. After a signal the process ends here: the interpreter would free
        memory that a compilation in another thread still uses, and crash.
        """
        if self.received:
            for child in multiprocessing.active_children():
                child.terminate()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)

    def end(self, reason: str, code: int, line: str | None = None) -> None:
        """Call all marks, and end the process."""
        for mark in list(self._marks):
            mark(reason)
        if line is not None and not self.reported:
            cursor = "\x1b[?25h" if os.isatty(2) else ""  # shows the cursor, which a bar may have hidden
            os.write(2, f"{cursor}{line}\n".encode())
        os._exit(code)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(MESSAGES[signal.SIGTERM])

    def _unraisable(self, dropped: "sys.UnraisableHookArgs") -> None:
        """Raise a dropped stop again; pass other dropped exceptions to the previous hook."""
        if not self.received or dropped.exc_type not in (KeyboardInterrupt, SystemExit):
            return self._hook(dropped)
        self._sender.send(bytes([RERAISE]))  # raised here it would be dropped as well

    def _watch(self) -> None:
        """Wait for a signal, then for the orderly stop; runs in a thread."""
        number = self._next(None)
        if number is None:
            return
        self.received = True
        self._next(GRACE)
        self.end(REASONS[number], 128 + number, MESSAGES[number])

    def _next(self, seconds: float | None) -> signal.Signals | None:
        """Return the next signal; None after so many seconds, or where the context ends before any signal."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:  # whatever is still raised again and dropped
                return None
            self._receiver.settimeout(remaining)
            try:
                [byte] = self._receiver.recv(1)
            except TimeoutError:
                return None
            if byte == RERAISE:
                time.sleep(0.01)
                self._repeated += 1
                os.kill(os.getpid(), self._number)
            elif byte in MESSAGES and self._repeated:
                self._repeated -= 1
            elif byte in MESSAGES:
                self._number = signal.Signals(byte)
                return self._number
            if byte == 0 and deadline is None:
                return None


def _active_stop() -> Stop | None:
    """Return the enclosing context, known from the handlers of the signals."""
    for number in MESSAGES:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(owner, Stop):
            return owner
    return None
