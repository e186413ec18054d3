"""A peer of which one way fails where it is first called, and that cannot do, or dies of, some cases."""

import os
import signal

from benchmarks.cases import Contenders


def fails():
    raise ValueError("Invalid ranges\n[0:-1]")


def contenders(task, name, compiled=False):
    if name == "impossible":
        fails()
    if name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return Contenders({"eager": lambda: None, "compiled": fails}, {})


def environment():
    return {"versions": {}}
