"""Memory of a test process, which keeps every program that it compiled."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

STATM = Path("/proc/self/statm")  # of Linux
LARGE = 2e9  # bytes; at 1.1e9 a worker stays at 3 GB, too, and compiles two fifths more programs


def resident() -> int:
    """Return the resident bytes of this process; 0 where the system does not say."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if STATM.exists() else 0


def release_programs() -> None:
    """Let compiled programs go once they are many: each takes about a megabyte, and some ten memory maps of 65,530."""
    if resident() > LARGE:
        import jax  # not before conftest.py has set the environment

        jax.clear_caches()
        gc.collect()
        with suppress(OSError, AttributeError):  # where the C library is another one
            ctypes.CDLL("libc.so.6").malloc_trim(0)
