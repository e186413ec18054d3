"""The compiled kernels for CPUs: made once from `kernels.cc` on this machine, kept in the user's cache.

They need the extra `cpu` (oneDNN) and a C++ compiler. Without the extra, or with PROGNAX_NATIVE=0, XLA's own forms
are used instead; what a process uses is said by `name()`.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import jax

TARGETS = ("convolve", "convolve_data", "convolve_weights", "norm", "norm_keep", "norm_backward")
SOURCE = Path(__file__).with_name("kernels.cc")
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


def name() -> str:
    """What convolutions run on where the CPU is the device: "onednn <version>" or "xla"."""
    found = _onednn()
    return f"onednn {found[0]}" if found and available() else "xla"


@cache
def available() -> bool:
    """Whether the kernels can be called; compiles and registers them at the first question."""
    found = _onednn()
    if os.environ.get("PROGNAX_NATIVE", "1") == "0" or found is None:
        return False
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
    if compiler is None:
        print("no C++ compiler for the native kernels: XLA's are used; install g++", file=sys.stderr)
        return False
    library = ctypes.CDLL(str(_compiled(compiler, *found[1:])))
    for target in TARGETS:
        function = jax.ffi.pycapsule(getattr(library, f"prognax_{target}"))
        jax.ffi.register_ffi_target(f"prognax_{target}", function, platform="cpu")
    return True


def _onednn() -> tuple[str, Path, Path] | None:
    """Version, library and headers of oneDNN, where the extra is installed."""
    try:
        parts = [distribution(name) for name in ("onednn-cpu-gomp", "onednn-devel-cpu-gomp")]
    except PackageNotFoundError:
        return None
    found = [
        Path(str(part.locate_file(file))).resolve()
        for part, ending in zip(parts, ("libdnnl.so.3", "include/dnnl.hpp"), strict=True)
        for file in part.files or ()
        if str(file).endswith(ending)
    ]
    return (parts[0].version, found[0], found[1].parent) if len(found) == 2 else None


def _compiled(compiler: str, onednn: Path, headers: Path) -> Path:
    """The shared library, from the cache if this source was compiled for these libraries and this processor."""
    what = [SOURCE.read_text(), version("jaxlib"), str(onednn), compiler, _processor(), *FLAGS]
    made = _folder() / f"{hashlib.sha256('|'.join(what).encode()).hexdigest()[:16]}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            fresh = Path(folder) / made.name
            includes = (f"-I{jax.ffi.include_dir()}", f"-I{headers}")
            command = [compiler, *FLAGS, *includes, str(SOURCE), "-o", str(fresh), str(onednn)]
            done = subprocess.run([*command, f"-Wl,-rpath,{onednn.parent}"], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"{compiler} could not compile {SOURCE}; set PROGNAX_NATIVE=0\n{done.stderr}")
            fresh.replace(made)
    return made


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prognax" / "native"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    flags = [line for line in info.read_text().splitlines() if line.startswith("flags")] if info.exists() else []
    return flags[0] if flags else platform.processor()
