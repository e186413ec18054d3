"""The `prognax` command: `prognax <task> [key=value ...]`, the same as `python -m experiments.<task>`."""

import logging
import sys
from importlib import import_module
from importlib.resources import files

from framework import logs
from framework.errors import suggest

logger = logging.getLogger(__name__)

TASKS = {
    "ingest": "read a cohort from tables and scans, and write its ledger",
    "verify": "compare a cohort with what was written, and with its source files",
    "forecast": "fit one model, forecast the held-out subjects and keep the model",
    "compare": "compare models on the same folds",
    "predict": "forecast new patients with a kept model",
    "pretrain": "train image encoders by reconstruction",
    "report": "draw the page of a run or of a sweep",
    "probe": "look for leaks in a cohort, a split and a model",
    "tadpole-score": "score a submission to the TADPOLE challenge",
    "doctor": "show devices, kernels, extras, caches, and what would make this machine faster",
    "completion": 'print the completion of bash: eval "$(prognax completion)"',
}


def main() -> None:
    """Run the task that the command line names."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in TASKS:
        logs.configure()
        logger.error("there is no task %r; %s", name, suggest(name, TASKS, "prognax --help lists them"))
        sys.exit(1)
    if name == "completion":
        print(files("experiments").joinpath("completion.bash").read_text(), end="")
        return
    module = f"experiments.{name.replace('-', '_')}"
    sys.argv = [module, *arguments]  # what a run records as its command
    import_module(module).main()


def usage() -> str:
    """Return the tasks, one a line."""
    width = max(map(len, TASKS))
    lines = "\n".join(f"  {name:{width}}  {says}" for name, says in TASKS.items())
    return f"usage: prognax <task> [key=value ...]\n\n{lines}\n\nprognax <task> --help shows the keys of a task."


if __name__ == "__main__":
    main()
