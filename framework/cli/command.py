"""A command-line entry: Hydra composes the config, and whatever the user can mend ends in one line and exit code 1."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from framework.config.config_files import require_plain
from framework.config.error_lines import explain
from framework.config.targets import granted
from framework.config.validate import check
from framework.errors import UserError
from framework.sweeps.job_log import How, conclude, folder_of, jobs, record
from framework.train.stopping import LINES, Stop

Together = Callable[[Sequence[DictConfig], How, Callable[[int, object], None]], Sequence[object]]


def command(
    config_name: str, together: Callable[[], Together] | None = None
) -> Callable[[Callable[[DictConfig], object]], Callable[[], None]]:
    """Turn `function(config)` into a program configured by `conf/<config_name>.yaml`.

    `together()` gives the function that runs many jobs of a sweep at once (`hydra/launcher=vmap`), where there is one.
    """

    def wrap(function: Callable[[DictConfig], object]) -> Callable[[], None]:
        def main() -> None:
            failures: list[Exception] = []
            trust: tuple[str, ...] = ()

            def task(config: DictConfig) -> object:
                try:
                    OmegaConf.resolve(config)
                    check(config, trust)
                    value = function(config)
                    ended(HydraConfig.get(), value)
                    return value
                except Exception as error:  # told below; the other jobs of a sweep go on
                    ended(HydraConfig.get(), error)
                    return None

            def ended(hydra: Any, value: object) -> None:
                if isinstance(value, Exception):
                    failures.append(value)
                record(hydra, value, explain(value, config_name) if isinstance(value, Exception) else None)

            def shared() -> Together:
                if together is None:
                    raise UserError(
                        f"experiments.{config_name} cannot train jobs side by side; leave hydra/launcher out"
                    )
                return together()

            def many(configs: Sequence[DictConfig], how: How) -> list[object]:
                values = shared()(configs, how, lambda place, value: ended(configs[place].hydra, value))
                return [None if isinstance(value, Exception) else value for value in values]

            task.together, task.shared, task.ended = many, shared, ended  # for launchers
            task.__module__ = f"experiments.{config_name}"  # what Hydra calls the program in its help
            HydraConfig.instance().cfg = None  # of another command in the same process
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its own exceptions on instead of printing them
            with Stop() as stop:
                try:
                    trust = granted(sys.argv[1:])
                    require_plain(sys.argv[1:], config_name)  # before Hydra acts on any file
                    hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(task)()
                except KeyboardInterrupt:
                    stop.said = True
                    print(LINES[signal.SIGINT], file=sys.stderr)
                    stop.leave(128 + signal.SIGINT)
                except SystemExit as stopped:
                    if not isinstance(stopped.code, str):
                        raise
                    stop.said = True
                    print(stopped.code, file=sys.stderr)
                    stop.leave(128 + signal.SIGTERM)
                except Exception as error:
                    failures.append(error)
            sweep = folder_of()
            if sweep is not None and not failures and not jobs(sweep):
                failures.append(UserError("the sweep has no jobs; give each key that is swept a value or more"))
            elif sweep is not None and not conclude(sweep):
                sys.exit(1)
            for error in failures:
                line = explain(error, config_name)
                if line is None:
                    raise error
                print(f"error: {line}", file=sys.stderr)
            sys.exit(1 if failures else 0)

        return main

    return wrap
