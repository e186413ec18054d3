"""A Slurm of one node, started for a test: munged, slurmctld and slurmd of this machine, on ports of their own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def _port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find it; skips, with the reason, where it cannot be started."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [name for name in PROGRAMS if shutil.which(name, path=path) is None]:
        pytest.skip(f"no Slurm on this machine ({missing[0]}): apt-get install slurmctld slurmd slurm-client munge")
    if os.getuid() != 0:
        pytest.skip("slurmd starts as root alone")
    folder.joinpath("state").mkdir(parents=True)
    folder.joinpath("spool").mkdir()
    folder.joinpath("munge.key").write_bytes(os.urandom(1024))
    folder.joinpath("munge.key").chmod(0o400)
    host = socket.gethostname().split(".")[0]
    told = {
        "host": host,
        "controller": _port(),
        "daemon": _port(),
        "user": "root",
        "folder": folder,
        "cpus": os.cpu_count(),
    }
    folder.joinpath("slurm.conf").write_text(CONFIG.format(**told))
    environment = os.environ | {"PATH": path, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    started: list[subprocess.Popen] = []
    try:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("w")
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1)
        _ready(environment, folder)
        yield environment
    finally:
        for one in reversed(started):
            one.terminate()
            one.wait()


def _ready(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        told = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True, check=False)
        if told.stdout.strip() == "idle":
            return
        time.sleep(1)
    last = (folder / "slurmctld.out").read_text().splitlines()[-1:]
    pytest.skip(f"Slurm did not start here within a minute: {told.stdout} {told.stderr} {last}")
