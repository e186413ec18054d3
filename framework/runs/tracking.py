"""Trackers to which a finished run is copied: none, TensorBoard's files, or MLflow's tables in SQLite.

`metrics.jsonl` is the record; a tracker copies it once the run is done, whichever launcher trained it, so that a member
of a vmapped program is tracked as one that ran alone.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from framework.configurable import configurable
from framework.errors import UserError
from framework.files import explain_unwritable


@configurable("tracking")
class Tracker(ABC):
    """Copier of a finished run's losses, settings and results to a tracking tool."""

    @abstractmethod
    def check(self) -> None:
        """Raise UserError where its package is missing or its place cannot be written, before any work."""

    @abstractmethod
    def copy(self, run: Path, settings: Mapping[str, Any]) -> None:
        """Copy a run; a run that was copied before is replaced."""


class NoTracking(Tracker):
    """No tracking: the run's folder is the only record."""

    def check(self) -> None:
        pass

    def copy(self, run: Path, settings: Mapping[str, Any]) -> None:
        pass


class TensorBoard(Tracker):
    """Event files in `folder`, one TensorBoard run for each run."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def check(self) -> None:
        _require_package("tensorboardX", "tensorboard")
        _require_writable(self.folder, "tracking.folder")

    def copy(self, run: Path, settings: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        place = self.folder / run.parent.name / run.name
        for old in place.glob("events.out.tfevents.*"):
            old.unlink()
        with SummaryWriter(str(place)) as writer:
            for name, value, step, seconds in curves(run):
                writer.add_scalar(name, value, step, walltime=seconds)
            writer.add_text("settings", f"```\n{json.dumps(settings, indent=1)}\n```")
            for name, value in results(run).items():
                writer.add_scalar(name, value, 0)


class MLflow(Tracker):
    """An MLflow experiment in a file of SQLite; the tag `prognax.run` of a run is the name of its folder."""

    def __init__(self, file: str, experiment: str | None):
        self.file, self.experiment = Path(file), experiment

    def check(self) -> None:
        _require_package("mlflow", "mlflow")
        _require_writable(self.file.parent, "tracking.file")

    def copy(self, run: Path, settings: Mapping[str, Any]) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{self.file.absolute()}")
        name = self.experiment or run.parent.name
        experiment = client.get_experiment_by_name(name)
        place = str(self.file.absolute().parent)
        number = experiment.experiment_id if experiment else client.create_experiment(name, artifact_location=place)
        for old in client.search_runs([number], f"tags.`prognax.run` = '{run.name}'"):
            client.delete_run(old.info.run_id)
        copied = client.create_run(number, run_name=run.name).info.run_id
        metrics = [Metric(key, value, int(1000 * seconds), step) for key, value, step, seconds in curves(run)]
        metrics += [Metric(_mlflow_name(key), value, 0, 0) for key, value in results(run).items()]
        params = [Param(key, str(value)[:500]) for key, value in flatten(settings).items()]
        tags = [RunTag("prognax.run", run.name), RunTag("prognax.folder", str(run.absolute()))]
        for start in range(0, max(len(metrics), len(params)), 100):  # MLflow's limit of a batch
            end = start + 100
            client.log_batch(copied, metrics[start:end], params[start:end], tags if start == 0 else [])
        client.set_terminated(copied)


def curves(run: Path) -> Iterator[tuple[str, float, int, float]]:
    """Yield name, value, step and seconds of every loss of `metrics.jsonl`."""
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        member = f"/{row['member']}" if row["member"] else ""
        for which in ("train", "validation"):
            yield f"{row['model']}{member}/{which}", row[which], row["step"], row["seconds"]


def results(run: Path) -> dict[str, float]:
    """Read every metric of the leaderboard that has a value."""
    rows = json.loads((run / "leaderboard.json").read_text())["rows"]
    return {f"{row['model']}/{row['target']}/{row['metric']}": row["value"] for row in rows if row["value"] is not None}


def flatten(settings: Mapping[str, Any], under: str = "") -> dict[str, object]:
    """Return nested settings by their dotted keys."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        flat |= flatten(value, f"{under}{key}.") if isinstance(value, Mapping) else {f"{under}{key}": value}
    return flat


def _mlflow_name(name: str) -> str:
    """Replace the characters that MLflow does not accept in a name."""
    return "".join(letter if letter.isalnum() or letter in "_-. /" else "_" for letter in name)


def _require_package(package: str, choice: str) -> None:
    try:
        __import__(package)
    except ModuleNotFoundError:
        raise UserError(
            f"tracking={choice} needs the package {package}; pip install 'prognax[tracking]', or leave tracking out"
        ) from None


def _require_writable(folder: Path, option: str) -> None:
    with explain_unwritable(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
