"""Kernels for CPUs in C++: compiled once on this machine, kept in the user's cache, called through `jax.ffi`.

PROGNAX_NATIVE=0 declines them all; then, and without a C++ compiler, XLA's own forms are used instead.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import jax

logger = logging.getLogger(__name__)

FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-fno-math-errno",
    "-shared",
    "-fPIC",
    "-w",
)


def register(
    source: Path, targets: Sequence[str], libraries: Sequence[Path] = (), headers: Sequence[Path] = ()
) -> bool:
    """Make `prognax_<target>` of this source callable; False where kernels are declined or nothing can compile them.

    Each is a function of XLA's foreign-call interface. Nothing is loaded where an accelerator does the work: its
    compiler (jaxlib 0.11.2, CUDA) crashed in a process that held these libraries. Raises RuntimeError where the source
    does not compile.
    """
    if os.environ.get("PROGNAX_NATIVE", "1") == "0" or jax.default_backend() != "cpu":
        return False
    found = compiler()
    if found is None:
        return False
    library = ctypes.CDLL(
        str(_compiled(found, source, libraries, headers)), mode=ctypes.RTLD_GLOBAL
    )  # kernels share locks
    for target in targets:
        function = jax.ffi.pycapsule(getattr(library, f"prognax_{target}"))
        jax.ffi.register_ffi_target(f"prognax_{target}", function, platform="cpu")
    return True


@cache
def compiler() -> str | None:
    """The C++ compiler that kernels are compiled with; None where there is none."""
    found = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if found is None:
        logger.warning("no C++ compiler for the native kernels: XLA's are used; install g++")
    return found


def _compiled(compiler: str, source: Path, libraries: Sequence[Path], headers: Sequence[Path]) -> Path:
    """The shared library, from the cache if this source was compiled for these libraries and this processor."""
    texts = [part.read_text() for part in (source, *sorted(source.parent.glob("*.h")))]
    what = [*texts, version("jaxlib"), *map(str, libraries), compiler, _processor(), *FLAGS]
    made = _folder() / f"{hashlib.sha256('|'.join(what).encode()).hexdigest()[:16]}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            fresh = Path(folder) / made.name
            includes = [f"-I{path}" for path in (jax.ffi.include_dir(), *headers)]
            linked = [part for path in libraries for part in (str(path), f"-Wl,-rpath,{path.parent}")]
            command = [compiler, *FLAGS, *includes, str(source), "-o", str(fresh), *linked]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{compiler} could not compile {source}; set PROGNAX_NATIVE=0\n{done.stderr}")
            fresh.replace(made)
    return made


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prognax" / "native"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    flags = [line for line in info.read_text().splitlines() if line.startswith("flags")] if info.exists() else []
    return flags[0] if flags else platform.processor()
