"""The network's kernels for CPUs: convolution by oneDNN (the extra `cpu`), normalisation fused with what follows.

Both need a C++ compiler. PROGNAX_NATIVE=0 disables both, PROGNAX_ONEDNN=0 convolution alone.
"""

import os
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from framework import native

HERE = Path(__file__).parent
CONVOLUTIONS = ("convolve", "convolve_data", "convolve_weights")
NORMS = ("norm", "norm_keep", "norm_backward")


def name() -> str:
    """The implementation of convolutions on a CPU: "onednn <version>" or "xla"."""
    found = _onednn()
    return f"onednn {found[0]}" if found and convolves() else "xla"


@cache
def convolves() -> bool:
    """Whether convolutions can be called; compiles and registers them at the first call."""
    found = _onednn()
    # normalisation first, whose lock convolutions take too
    return (
        found is not None
        and normalises()
        and native.register(HERE / "convolution.cc", CONVOLUTIONS, [found[1]], [found[2]])
    )


@cache
def normalises() -> bool:
    """Whether normalisation can be called; compiles and registers it at the first call."""
    return native.register(HERE / "norm.cc", NORMS)


def _onednn() -> tuple[str, Path, Path] | None:
    """Version, library and headers of oneDNN, where the extra is installed."""
    if os.environ.get("PROGNAX_ONEDNN", "1") == "0":
        return None
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
