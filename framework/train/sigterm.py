"""A request to stop by SIGTERM, noted until training reaches a point where it can stop."""

import signal
import threading
from types import FrameType, TracebackType


class Termination:
    """Context in which `requested` is whether SIGTERM was received; a second SIGTERM has its previous effect.

    Signals are handled in the main thread alone; in any other, SIGTERM keeps its effect.
    """

    def __init__(self):
        self.requested = False
        self._listening = False

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
            self._listening = True
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._leave()

    def _leave(self) -> None:
        if self._listening:
            # None: the handler was not set from Python, and cannot be set again from here
            signal.signal(signal.SIGTERM, signal.SIG_DFL if self._before is None else self._before)
            self._listening = False
