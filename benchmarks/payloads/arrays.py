"""Array files that hold pickles, or no arrays."""

import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from benchmarks.payloads.making import Base, Payload, Reduces, received
from framework.digests import seal


def payloads() -> Iterator[Payload]:
    """Payloads in the arrays of the model and of the forecasts."""

    def pickled(victim: Path) -> bytes:
        return pickle.dumps(Reduces(f"touch {victim}/x"))

    def npy(victim: Path) -> bytes:
        out = BytesIO()
        one = np.empty(1, object)
        one[0] = Reduces(f"touch {victim}/x")
        np.save(out, one, allow_pickle=True)
        return out.getvalue()

    def npz(victim: Path, name: str = "arr_0.npy") -> bytes:
        out = BytesIO()
        with zipfile.ZipFile(out, "w") as file:
            file.writestr(name, npy(victim))
        return out.getvalue()

    contents: Mapping[str, Callable[[Path], bytes]] = {
        "a pickle": pickled,
        "an array of a pickle": npy,
        "a zip of a pickled array": npz,
        "a zip of a pickle": lambda v: npz(v).replace(b"\x93NUMPY", b"\x80NUMPY"),
        "a zip that goes up": lambda v: npz(v, "../../victim/x.npy"),
        "nothing": lambda v: b"",
        "noise": lambda v: bytes(range(256)),
    }
    for name, content in contents.items():

        def edit(config, manifest, run, victim, content=content):
            for file in (run / "models").rglob("arrays.npz"):
                file.write_bytes(content(victim))

        yield Payload("arrays", f"the model's arrays are {name}", received(edit))

    def link(config, manifest, run, victim):
        for file in (run / "models").rglob("arrays.npz"):
            file.unlink()
            file.symlink_to("/etc/passwd")

    yield Payload("arrays", "the model's arrays are a link", received(link))

    def report(base: Base, work: Path, victim: Path) -> list[str]:
        run = shutil.copytree(base.run, work / "received")
        for file in (run / "forecasts.zarr").rglob("c"):
            for chunk in file.rglob("*"):
                if chunk.is_file():
                    chunk.write_bytes(pickled(victim))
        seal(run)
        return ["run=received"]

    yield Payload("arrays", "the forecasts' chunks are pickles", report, "report")
