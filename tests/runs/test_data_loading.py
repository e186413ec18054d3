"""A cohort that several processes want at once is brought in once."""

import subprocess
import sys
from pathlib import Path

from tests.experiments.conftest import rows, study, write_table

ROOT = Path(__file__).parents[2]


def test_processes_that_begin_side_by_side_bring_the_cohort_in_once(tmp_path):
    write_table(tmp_path / "visits.csv", rows(subjects=40))
    words = [*study(tmp_path), f"runs={tmp_path}/runs", "data.targets=[score]"]
    script = (
        "import sys\n"
        "from hydra import compose, initialize_config_module\n"
        "from framework import logs\n"
        "from framework.runs.data_loading import load_cohort\n"
        "logs.configure()\n"
        "with initialize_config_module('conf', version_base='1.3'):\n"
        "    config = compose('forecast', sys.argv[1:])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(len(load_cohort(config).subjects))\n"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, *words],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for one in started:
        assert one.stdout.readline() == "ready\n"
    for one in started:  # all at once
        one.stdin.write("\n")
        one.stdin.flush()
    told = [one.communicate() for one in started]
    assert [out for out, _ in told] == ["40\n"] * 3, told
    assert sum("no cohort at" in err for _, err in told) == 1
