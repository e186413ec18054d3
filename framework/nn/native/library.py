"""The network's kernels for CPUs: convolution by oneDNN (the extra `cpu`), normalisation fused with what follows."""

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from framework import native

TARGETS = ("convolve", "convolve_data", "convolve_weights", "norm", "norm_keep", "norm_backward")
SOURCE = Path(__file__).with_name("kernels.cc")


def name() -> str:
    """What convolutions run on where the CPU is the device: "onednn <version>" or "xla"."""
    found = _onednn()
    return f"onednn {found[0]}" if found and available() else "xla"


@cache
def available() -> bool:
    """Whether the kernels can be called; compiles and registers them at the first question."""
    found = _onednn()
    return found is not None and native.register(SOURCE, TARGETS, [found[1]], [found[2]])


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
