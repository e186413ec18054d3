"""A wish to stop, heard at the next good moment."""

import signal
import threading
from types import FrameType, TracebackType


class Termination:
    """Inside a `with`, `asked` says whether SIGTERM has come; a second one acts as if nobody listened.

    Only the main thread can listen; in any other, SIGTERM does what it always did.
    """

    def __init__(self):
        self.asked = False
        self._listening = False

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._listening = True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self._leave()

    def _leave(self) -> None:
        if self._listening:
            # None: the handler was not set from Python, and cannot be set again from here
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
            self._listening = False
