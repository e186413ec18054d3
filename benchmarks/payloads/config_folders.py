"""Configuration folders, given with `--config-dir`, that set what only the user may set."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.payloads.making import (
    Base,
    Bring,
    Payload,
    Reduces,
    table,
    table_overrides,
    write_evil_modules,
    write_table,
)


def global_package(text: str) -> dict[str, str]:
    """Return an experiment file whose package is the whole configuration."""
    return {"experiment/mine.yaml": f"# @package _global_\n{text}\n"}


EVIL_CALL = "{_target_: evil.run}"

FOLDERS: Mapping[str, dict[str, str]] = {
    "trust": global_package("trust: [evil]\nmodel: {_target_: evil.Evil}"),
    "a callback": global_package(f"hydra: {{callbacks: {{x: {EVIL_CALL}}}}}"),
    "a callback of ours": global_package(
        "hydra: {callbacks: {x: {_target_: framework.native.register, name: x, source: y}}}"
    ),
    "a compiler": global_package("hydra: {job: {env_set: {CXX: './evil.sh'}}}"),
    "a cache": global_package("hydra: {job: {env_set: {XDG_CACHE_HOME: '{victim}'}}}"),
    "a preloaded library": global_package("hydra: {job: {env_set: {LD_PRELOAD: './evil.so'}}}"),
    "a log file": global_package(
        "hydra: {job_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {class: logging.FileHandler, "
        "filename: '{victim}/precious.txt', mode: w}}}}"
    ),
    "a log handler": global_package(
        "hydra: {job_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {(): evil.run}}}}"
    ),
    "Hydra's own log": global_package(
        "hydra: {hydra_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {(): evil.run}}}}"
    ),
    "a working folder": global_package("hydra: {run: {dir: '{victim}'}, job: {chdir: true}}"),
    "an output folder": global_package("hydra: {output_subdir: '{victim}/x'}"),
    "a sweep's folder": global_package("hydra: {mode: MULTIRUN, sweep: {dir: '{victim}/x'}}"),
    "a launcher": global_package(f"hydra: {{mode: MULTIRUN, launcher: {EVIL_CALL}}}"),
    "a sweeper": global_package(f"hydra: {{mode: MULTIRUN, sweeper: {EVIL_CALL}}}"),
    "a database": global_package(
        "defaults: [{override /hydra/sweeper: optuna}]\nhydra: {sweeper: {storage: '{victim}/x'}}"
    ),
    "a shell line": global_package("hydra: {launcher: {setup: ['touch {victim}/x']}}"),
    "a Slurm launcher": global_package(
        "defaults: [{override /hydra/launcher: submitit_slurm}]\nhydra: {mode: MULTIRUN}"
    ),
    "a default log": global_package("defaults: [{override /hydra/job_logging: default}]"),
    "a search path": global_package("hydra: {searchpath: ['pkg://evil']}"),
    "a swept trust": global_package(
        "hydra: {mode: MULTIRUN, sweeper: {params: {trust: '[evil],[os]'}}}\nmodel: {_target_: evil.Evil}"
    ),
    "a swept folder": global_package("hydra: {mode: MULTIRUN, sweeper: {params: {hydra.run.dir: '{victim}'}}}"),
    "a package of Hydra's": global_package("defaults: ['/data/oasis2@hydra.callbacks.x']"),
    "a header of Hydra's": {"experiment/mine.yaml": f"# @package hydra.callbacks\nx: {EVIL_CALL}\n"},
    "a file of Hydra's": global_package("defaults: [{override /hydra/job_logging: mine}]")
    | {"hydra/job_logging/mine.yaml": "version: 1\nhandlers: {f: {(): evil.run}}\n"},
    "a model of evil": global_package("model: {_target_: evil.Evil}"),
    "a model of os": global_package("model: {_target_: os.remove, path: '{victim}/precious.txt'}"),
    "a model that is written": global_package(
        "model: {_target_: framework.files.write_atomic, path: '{victim}/x', text: x}"
    ),
    "a tracker of evil": global_package("tracking: {_target_: evil.Evil}"),
    "a tracker elsewhere": global_package(
        "tracking: {_target_: framework.runs.tracking.MLflow, file: '{victim}/x.db', experiment: x}"
    ),
    "a reader of evil": global_package("data: {reader: {_target_: evil.Evil}}"),
    "an event of evil": global_package("data: {events: {a: {_target_: evil.Evil}}}"),
    "runs elsewhere": global_package("runs: '{victim}'"),
    "runs above": global_package("runs: ../victim"),
    "a cohort elsewhere": global_package("data: {store: '{victim}'}"),
    "a cohort of the home": global_package("data: {store: '${oc.env:HOME}/../victim'}"),
    "a cohort by URL": global_package("data: {store: 'file://{victim}'}"),
    "a cohort's name": global_package("data: {name: ../../victim/x}"),
    "an experiment's name": global_package("experiment: ../../victim/x"),
    "a package to import": global_package("data: {path: 'package:evil/x.csv'}"),
    "a package within": global_package("data: {path: 'package:mypackage.heads/x.csv'}"),
    "a package above": global_package("data: {path: 'package:mypackage/../../victim/precious.txt'}"),
    "a name with an end of line": global_package('data: {name: "a\\nb"}'),
}


def payloads() -> Iterator[Payload]:
    """Payloads with a configuration folder, or another primary configuration."""
    for name, files in FOLDERS.items():

        def bring(base: Base, work: Path, victim: Path, files=files) -> list[str]:
            write_evil_modules(work, victim)
            write_table(work / "visits.csv", table(9))
            for file, text in files.items():
                (work / "conf_d" / file).parent.mkdir(parents=True, exist_ok=True)
                (work / "conf_d" / file).write_text(text.replace("{victim}", str(victim)))
            sets_path = "path:" in str(files)
            words = [word for word in table_overrides("visits.csv") if not (sets_path and word.startswith("data.path"))]
            return ["--config-dir", "conf_d", "+experiment=mine", "report=false", "resamples=100", *words]

        yield Payload("configuration folders", f"a folder sets {name}", bring, "forecast")

    def option(*words: str) -> Bring:
        def bring(base: Base, work: Path, victim: Path) -> list[str]:
            write_evil_modules(work, victim)
            (work / "rerun.pickle").write_bytes(pickle.dumps(Reduces(f"touch {victim}/x")))
            (work / "conf_d").mkdir()
            (work / "conf_d" / "forecast.yaml").write_text(f"hydra: {{callbacks: {{x: {EVIL_CALL}}}}}\n")
            return list(words)

        return bring

    yield Payload(
        "configuration folders", "a pickle to run again", option("--experimental-rerun=rerun.pickle"), "forecast"
    )
    yield Payload("configuration folders", "another primary file", option("--config-path=conf_d"), "forecast")
    yield Payload("configuration folders", "another primary name", option("--config-name=evil"), "forecast")
