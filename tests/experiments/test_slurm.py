"""`hydra/launcher=submitit_slurm` on a real Slurm: a group is a Slurm job, and a killed one costs nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.experiments.conftest import QUICK, rows, runner, study, write_table
from tests.sweeps.slurm import cluster

ROOT = Path(__file__).parents[2]
SWEEP = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.jobs=2", "seed=range(4)", "report=false")
LONG = ("training.steps=3000", "training.eval_every=10", "training.patience=3000")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "run") as environment:
        yield environment


def started(folder: Path, slurm: dict[str, str], *more: str) -> subprocess.Popen:
    words = [*study(folder), f"runs={folder}/runs", "data.targets=[score,stage]", "split.folds=3", *QUICK, *more]
    command = [sys.executable, "-m", "experiments.forecast", *SWEEP, *words]
    return subprocess.Popen(command, cwd=ROOT, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(slurm: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=slurm, capture_output=True, text=True, check=True).stdout


def training(folder: Path, slurm: dict[str, str], sweep: subprocess.Popen) -> str:
    """The id of the Slurm job that trains the first group, once it is in the midst of it."""
    while not any(file.stat().st_size for file in (folder / "runs").rglob("metrics.jsonl")):
        assert sweep.poll() is None, sweep.communicate()
        time.sleep(0.2)
    return min(
        line
        for line in asked(slurm, "squeue", "-h", "-r", "-o", "%i").split()
        if line.endswith("_0") or "_" not in line
    )


def lines(folder: Path) -> list[list[dict]]:
    files = sorted((folder / "runs" / "sweeps").rglob("jobs.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_a_group_is_a_slurm_job_and_what_is_cancelled_is_told_and_done_again(slurm, tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    first = started(tmp_path, slurm, *LONG, "hydra.launcher.patience=2")
    job = training(tmp_path, slurm, first)
    asked(slurm, "scancel", job)
    out, err = first.communicate()
    assert first.returncode == 1
    assert "slurm: 4 jobs in 2 Slurm jobs" in err
    assert f"failed: Slurm job {job} is cancelled; see " in err
    assert out.splitlines()[-1].startswith("sweep: 2 of 4 jobs finished")
    [told] = lines(tmp_path)
    finished = [line for line in told if line["failed"] is None]
    assert sorted(line["job"] for line in finished) == [2, 3]
    assert all(json.loads((Path(line["run"]) / "cost.json").read_text())["gru"]["members"] == 2 for line in finished)

    again = started(tmp_path, slurm, *LONG)  # the same command does what is unfinished, and survives a requeue
    while asked(slurm, "squeue", "-h", "-o", "%T").strip() != "RUNNING":
        assert again.poll() is None, again.communicate()
        time.sleep(0.2)
    [job] = asked(slurm, "squeue", "-h", "-r", "-o", "%i").split()
    asked(slurm, "scancel", job)
    time.sleep(1)
    asked(slurm, "scontrol", "requeue", job)
    out, err = again.communicate()
    assert (again.returncode, out.splitlines()[-1][:28]) == (0, "sweep: 4 of 4 jobs finished;"), err
    assert "slurm: 2 jobs in 1 Slurm jobs" in err
    assert "CANCELLED" in "".join(file.read_text() for file in (tmp_path / "runs").rglob("*_log.err"))
    assert sorted(line["job"] for line in lines(tmp_path)[-1]) == [0, 1, 2, 3]


def test_what_slurm_does_not_take_is_told_in_one_line(slurm, tmp_path):
    write_table(tmp_path / "visits.csv", rows())
    sweep = started(tmp_path, slurm, "hydra.launcher.partition=none")
    _, err = sweep.communicate()
    assert sweep.returncode == 1
    assert "error: Slurm rejected the jobs (sbatch: error: " in err
    assert "invalid partition specified: none" in err or "Invalid partition name specified" in err
    assert "Traceback" not in err


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    write_table(tmp_path / "visits.csv", rows())
    told = runner(tmp_path)("forecast", *SWEEP, *QUICK)
    assert told.code == 1
    assert told.err[-1] == (
        "error: no Slurm was found (no sbatch); start the command where jobs are submitted, or use hydra/launcher=vmap"
    )
    told = runner(tmp_path)("compare", "-m", "hydra/launcher=submitit_slurm", "models=[slope]", "seed=0,1")
    assert told.err == ["error: experiments.compare cannot train jobs side by side; leave hydra/launcher out"]


def test_joblib_runs_jobs_in_processes_of_their_own(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra cluster")
    write_table(tmp_path / "visits.csv", rows())
    words = [*study(tmp_path), f"runs={tmp_path}/runs", "data.targets=[score,stage]", "split.folds=3", *QUICK]
    command = [sys.executable, "-m", "experiments.forecast", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    told = subprocess.run(
        [*command, "model=slope,last_visit,cox", "report=false", *(w for w in words if not w.startswith(("model", "training")))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == 1  # there is no event for Cox's model to forecast
    assert "sweep: 2 of 3 jobs finished" in told.stdout
    [jobs] = lines(tmp_path)
    processes = {json.loads((Path(line["run"]) / "status.json").read_text())["process"] for line in jobs if line["run"]}
    assert len(processes) == 2
