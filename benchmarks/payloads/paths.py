"""Paths of files on the reader's machine that a run names."""

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.payloads.making import Bring, Payload, received


def payloads() -> Iterator[Payload]:
    """Payloads with paths outside the folder."""

    def edit(change: Callable[[dict, Path], object]) -> Bring:
        return received(lambda c, m, r, v: change(c, v) and None)

    def another(config: dict, victim: Path) -> None:
        config["data"]["reader"] |= {"path": "/etc/passwd"}

    def nested(config: dict, victim: Path) -> None:
        config["data"]["reader"] = {
            "_target_": "framework.data.ingest.nifti.Nifti",
            "path": config["data"]["path"],
            "visits": config["data"]["reader"] | {"path": "/etc/passwd"},
            "modalities": {},
        }

    def fitted(config: dict, victim: Path) -> None:
        config["fitted"]["gru"] |= {"pretrained": str(victim), "frozen": True}

    yield Payload("paths", "a reader of /etc/passwd", edit(another))
    yield Payload("paths", "a table of /etc/passwd within a reader", edit(nested))
    yield Payload("paths", "pretrained encoders elsewhere", edit(fitted))
    for key in ("store", "leaderboard", "path"):

        def elsewhere(config: dict, victim: Path, key=key) -> None:
            config["data"][key] = str(victim / "precious.txt")

        yield Payload("paths", f"data.{key} elsewhere", edit(elsewhere), refused=key == "path")
