"""Command-line entry: Hydra composes the config, an error that the user can fix is one line and exit code 1."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from framework import logs
from framework.cli.help import help_text
from framework.config.config_files import check_config_files
from framework.config.error_lines import explain
from framework.config.targets import trusted_packages
from framework.config.validate import validate_config
from framework.errors import UserError
from framework.sweeps.job_log import LaunchOptions, conclude, log_job, read_jobs, sweep_folder
from framework.train.stopping import MESSAGES, Stop

logger = logging.getLogger(__name__)

BatchRunner = Callable[[Sequence[DictConfig], LaunchOptions, Callable[[int, object], None]], Sequence[object]]


def command(
    config_name: str, load_batch_runner: Callable[[], BatchRunner] | None = None
) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Turn `function(config)` into a program configured by `conf/<config_name>.yaml`.

    `load_batch_runner()` returns the function that runs many jobs of a sweep at once (`hydra/launcher=vmap`).
    """

    def wrap(function: Callable[[DictConfig], object]) -> Callable[[], None]:
        def main() -> None:
            failures: list[Exception] = []
            trust: tuple[str, ...] = ()

            level, arguments = logging.INFO, sys.argv[1:]

            def task(config: DictConfig) -> object:
                logs.configure(level)  # also in the process of a launcher
                try:
                    OmegaConf.resolve(config)
                    validate_config(config, trust)
                    value = function(config)
                    record(HydraConfig.get(), value)
                    return value
                except Exception as error:  # reported below; the other jobs of a sweep go on
                    record(HydraConfig.get(), error)
                    return None

            def record(hydra: Any, value: object) -> None:
                if isinstance(value, Exception):
                    failures.append(value)
                log_job(hydra, value, explain(value, config_name) if isinstance(value, Exception) else None)

            def require_batch_runner() -> BatchRunner:
                if load_batch_runner is None:
                    raise UserError(
                        f"experiments.{config_name} cannot train jobs side by side; leave hydra/launcher out"
                    )
                return load_batch_runner()

            def run_batch(configs: Sequence[DictConfig], options: LaunchOptions) -> list[object]:
                logs.configure(level)
                run = require_batch_runner()
                values = run(configs, options, lambda place, value: record(configs[place].hydra, value))
                return [None if isinstance(value, Exception) else value for value in values]

            # for launchers
            task.run_batch, task.require_batch_runner, task.record = run_batch, require_batch_runner, record
            task.__module__ = f"experiments.{config_name}"  # the name of the program in Hydra's help
            HydraConfig.instance().cfg = None  # of another command in the same process
            os.environ["HYDRA_FULL_ERROR"] = "1"  # has Hydra raise its own exceptions instead of printing them
            logs.configure()
            with Stop() as stop:
                try:
                    level, sys.argv[1:] = logs.split_verbosity(arguments)
                    logs.configure(level)
                    trust = trusted_packages(sys.argv[1:])
                    check_config_files(sys.argv[1:], config_name)  # before Hydra acts on any file
                    if {"-h", "--help"} & set(sys.argv[1:]):
                        print(help_text(config_name, sys.argv[1:]))
                        return
                    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(task)()
                except KeyboardInterrupt:
                    stop.reported = True
                    logger.critical(MESSAGES[signal.SIGINT])
                    stop.exit(128 + signal.SIGINT)
                except SystemExit as stopped:
                    if not isinstance(stopped.code, str):
                        raise
                    stop.reported = True
                    logger.critical(stopped.code)
                    stop.exit(128 + signal.SIGTERM)
                except Exception as error:
                    failures.append(error)
            sweep = sweep_folder()
            if sweep is not None and not failures and not read_jobs(sweep):
                failures.append(UserError("the sweep has no jobs; give each key that is swept a value or more"))
            elif sweep is not None and not conclude(sweep):
                sys.exit(1)
            for error in failures:
                line = explain(error, config_name)
                if line is None:
                    raise error
                logger.error(line)
            sys.exit(1 if failures else 0)

        return main

    return wrap
