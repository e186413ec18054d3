"""What somebody could send: runs, configurations, tables and arrays that attack whoever opens them.

Each is brought into a folder where a user works, beside a `victim` whose file it is to destroy, and opened there.
"""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from framework.digests import seal

HEADER = "id,number,time,score,stage,age"
VARIABLES = {
    "score": {"roles": ["input", "target"], "units": "points"},
    "stage": {"roles": ["input", "target"], "levels": ["well", "ill"], "ordered": True},
    "age": {"roles": ["input", "known_ahead"], "units": "years", "per_year": 1},
}
QUICK = ("optimizer.steps=4", "optimizer.round=2", "model.head.cell.features=4", "model.width=4", "resamples=100")
FLOOR = {"_target_": "framework.forecast.references.LastVisit", "drifts": False}
EVIL = """import os
open({mark!r}, "w").write("executed")
class Evil:
    def __init__(self, **more): os.remove({victim!r})
def run(**more): os.remove({victim!r})
"""

Bring = Callable[["Base", Path, Path], Sequence[str]]


@dataclass(frozen=True)
class Payload:
    """One attack: `bring(base, work, victim)` lays it into a folder and returns what a user would type."""

    group: str
    name: str
    bring: Bring
    command: str = "predict"
    refused: bool = True
    after: Callable[[Path], Sequence[str]] = lambda work: ()


@dataclass(frozen=True)
class Base:
    """An honest run, which payloads are edited copies of."""

    folder: Path
    run: Path

    @staticmethod
    def at(folder: Path) -> "Base":
        """The one in a folder, finished or not."""
        runs = sorted((folder / "runs" / "forecast").glob("*/config.yaml"))
        return Base(folder, runs[0].parent if runs else folder / "none")

    @property
    def finished(self) -> bool:
        return (self.run / "digests.json").exists()

    def commands(self) -> list[tuple[str, list[str]]]:
        """What makes the run."""
        write_table(self.folder / "visits.csv", table(12))
        words = [*study(self.folder / "visits.csv"), "model=gru", "split.folds=3", "report=false", *QUICK]
        return [("forecast", [*words, f"runs={self.folder}/runs", f"data.store={self.folder}/store"])]


def table(subjects: int, names: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Rows of visits, of subjects called as said or s00, s01, ..."""
    rng = np.random.default_rng(seed)
    lines = []
    for i in range(subjects):
        name = names[i] if i < len(names) else f"s{i:02}"
        for j in range(3):
            score = 25 + rng.normal(0, 3) - 2 * j
            time, stage = j + rng.uniform(0, 0.4) if j else 0, "ill" if score < 23 else "well"
            lines.append(f'"{name}",{j + 1},{time},{score:.2f},{stage},{70 + i + j}')
    return lines


def write_table(file: Path, lines: Sequence[str]) -> None:
    """Write rows under their header."""
    file.write_text("\n".join([HEADER, *lines]) + "\n")


def study(file: Path | str) -> list[str]:
    """What a user says of the table."""
    words = ["data=table", f"data.path={file}", "data.reader.subject=id", "data.reader.order=number"]
    words += [f"+data.reader.variables.{name}={plain(what)}" for name, what in VARIABLES.items()]
    return [*words, "data.targets=[score,stage]"]


def plain(value: object) -> str:
    """A value as Hydra reads it on a command line."""
    return json.dumps(value).replace('"', "")


class Plain(yaml.SafeDumper):
    """Writes what is there twice twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def received(edit: Callable[[dict, dict, Path, Path], str | None], *words: str) -> Bring:
    """An edited copy of the run, sealed as its sender would; `edit(config, manifest, run, victim)`."""

    def bring(base: Base, work: Path, victim: Path) -> list[str]:
        run = shutil.copytree(base.run, work / "received")
        config, manifest = (
            yaml.safe_load((run / "config.yaml").read_text()),
            json.loads((run / "manifest.json").read_text()),
        )
        text = edit(config, manifest, run, victim)
        (run / "config.yaml").write_text(text or yaml.dump(config, Dumper=Plain, sort_keys=False))
        (run / "manifest.json").write_text(json.dumps(manifest))
        seal(run)
        bring_evil(work, victim)
        write_table(work / "new.csv", table(3, seed=1))
        return ["run=received", "data.path=new.csv", "ahead=[1]", *words]

    return bring


def bring_evil(work: Path, victim: Path) -> None:
    """Modules that destroy when they are imported, or called."""
    text = EVIL.format(mark=str(victim / "executed"), victim=str(victim / "precious.txt"))
    (work / "evil.py").write_text(text)
    (work / "mypackage").mkdir(exist_ok=True)
    (work / "mypackage" / "__init__.py").write_text(text)
    (work / "mypackage" / "heads.py").write_text(text)


def every() -> Iterator[Payload]:
    """All of them."""
    yield from targets()
    yield from places()
    yield from resolvers()
    yield from texts()
    yield from folders()
    yield from arrays()
    yield from names()
    yield from paths()
    yield from tables()


CALLS: Mapping[str, dict[str, Any]] = {  # what a target might be, with arguments that would do harm
    "os.system": {"command": "touch {victim}/x"},
    "os.remove": {"path": "{victim}/precious.txt"},
    "os.mkdir": {"path": "{victim}/x"},
    "os.putenv": {},
    "posix.system": {"command": "touch {victim}/x"},
    "subprocess.run": {"args": ["touch", "{victim}/x"]},
    "subprocess.Popen": {"args": ["touch", "{victim}/x"]},
    "builtins.eval": {},
    "builtins.exec": {},
    "builtins.open": {"file": "{victim}/precious.txt", "mode": "w"},
    "builtins.__import__": {"name": "evil"},
    "importlib.import_module": {"name": "evil"},
    "runpy.run_path": {"path_name": "evil.py"},
    "runpy.run_module": {"mod_name": "evil"},
    "shutil.rmtree": {"path": "{victim}"},
    "shutil.move": {"src": "{victim}/precious.txt", "dst": "x"},
    "ctypes.CDLL": {"name": "./evil.so"},
    "numpy.load": {"file": "evil.npy", "allow_pickle": True},
    "numpy.ctypeslib.load_library": {"libname": "evil", "loader_path": "."},
    "pickle.load": {},
    "pandas.read_pickle": {"filepath_or_buffer": "evil.pickle"},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system ['touch x']"},
    "urllib.request.urlopen": {"url": "http://127.0.0.1:9/"},
    "webbrowser.open": {"url": "http://127.0.0.1:9/"},
    "hydra.utils.instantiate": {"config": {"_target_": "os.mkdir", "path": "{victim}/x"}},
    "hydra.utils.call": {},
    "hydra._internal.instantiate._instantiate2.instantiate": {},
    "omegaconf.OmegaConf.save": {"config": {}, "f": "{victim}/precious.txt"},
    "logging.FileHandler": {"filename": "{victim}/precious.txt", "mode": "w"},
    "pathlib.Path": {},
    "jax.numpy.save": {"file": "{victim}/x.npy", "arr": [1]},
    "optax.adamw": {"learning_rate": 0.1},
    "optax.inject_hyperparams": {},
    "evil.Evil": {},
    "evil.run": {},
    "mypackage.Evil": {},
    "mypackage.heads.Evil": {},
    "framework.native.register": {"name": "x", "source": "evil.cc"},
    "framework.config.targets.target_of": {"name": "evil.Evil", "place": "", "trust": ["evil"]},
    "framework.config.targets.import_module": {"name": "evil"},
    "framework.config.validate.check": {"config": {}, "trust": ["evil"]},
    "framework.runs.predict.predict": {"config": {"run": "received", "trust": ["evil"]}},
    "framework.config.received.configuration": {"run": "received", "trust": ["evil"]},
    "framework.runs.job.instantiate": {"config": {"_target_": "os.mkdir", "path": "{victim}/x"}},
    "framework.runs.job.Job": {},
    "framework.runs.folder.RunFolder": {"path": "{victim}"},
    "framework.runs.folder.shutil.rmtree": {"path": "{victim}"},
    "framework.runs.folder.os.system": {"command": "touch {victim}/x"},
    "framework.sweeps.pool.Processes": {},
    "framework.cli.command.command": {"config_name": "forecast"},
    "framework.runs.tracking.TensorBoard": {"folder": "{victim}"},
    "framework.runs.tracking.MLflow": {"file": "{victim}/x.db", "experiment": None},
    "framework.files.write_whole": {"path": "{victim}/precious.txt", "text": ""},
    "framework.digests.seal": {"run": "{victim}"},
    "framework.digests.unseal": {"run": "{victim}"},
    "framework.train.array_io.save_arrays": {"path": "{victim}", "state": []},
    "framework.train.mesh.Hosts": {"coordinator": "127.0.0.1:9", "processes": 2, "process": 0},
    "framework.report.tables.write": {"tables": [], "folder": "{victim}"},
    "framework.report.page.build": {"folder": "{victim}"},
    "framework.data.cohort.store.atomic.discard": {"path": "{victim}"},
    "framework.data.cohort.store.writing.write": {"path": "{victim}", "schema": None, "subjects": []},
    "framework.data.ingest.base.ingest": {"reader": None, "store": "{victim}", "existing": "overwrite"},
    "framework.data.ingest.table.Table": {"path": "/etc/passwd", "subject": "x", "time": {}},
    "framework.nn.heads.mean_pool.MeanPool": {"features": 3},
    "framework.nn.heads.gru.GRU": {"features": 3},
    "framework.forecast.ensembles.crossfit.Deep": {},
    "framework.forecast.ensembles.crossfit.CrossFit.load": {},
    "framework.forecast.base.Forecaster": {},
    "framework.image.augment.Flip": {"share": 0.5},
    "framework": {},
    "framework.": {},
    ".os.system": {},
    "framework..launch.predict.predict": {},
    "framework.config/../../evil.Evil": {},
}


def filled(node: Any, victim: Path) -> Any:
    """A value with the victim's folder in it."""
    if isinstance(node, dict):
        return {key: filled(value, victim) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, victim) for value in node]
    return node.replace("{victim}", str(victim)) if isinstance(node, str) else node


def call(name: str, victim: Path, **more: Any) -> dict[str, Any]:
    """A node that would call a target."""
    return {"_target_": name} | filled(CALLS.get(name, {}), victim) | more


def targets() -> Iterator[Payload]:
    """Any callable in the place of the model, whole or partial."""
    for name in CALLS:

        def edit(config, manifest, run, victim, name=name):
            config["fitted"]["gru"] = call(name, victim)

        yield Payload("targets", f"the model is {name}", received(edit))
    for name in (
        "os.system",
        "evil.run",
        "framework.native.register",
        "framework.runs.predict.predict",
        "builtins.eval",
    ):

        def edit(config, manifest, run, victim, name=name):
            config["fitted"]["gru"] = call(name, victim, _partial_=True)

        yield Payload("targets", f"the model is a partial of {name}", received(edit))
    for trust in (["os"], ["evil"], ["mypackage"], "evil"):

        def edit(config, manifest, run, victim, trust=trust):
            config["trust"] = trust
            package = trust if isinstance(trust, str) else trust[0]
            config["fitted"]["gru"] = call(f"{package}.remove" if package == "os" else f"{package}.Evil", victim)

        yield Payload("targets", f"the run trusts {trust}", received(edit))


NESTED = ("os.remove", "evil.Evil", "framework.native.register", "framework.files.write_whole", "optax.adamw")
NODES: Mapping[str, Callable[[dict, Any], None]] = {
    "the head": lambda c, n: c["fitted"]["gru"].update(head=n),
    "the cell of the head": lambda c, n: c["fitted"]["gru"]["head"].update(cell=n),
    "the fusion": lambda c, n: c["fitted"]["gru"].update(fusion=n),
    "the encoder": lambda c, n: c["fitted"]["gru"].update(encoder=n),
    "the augmentation": lambda c, n: c["fitted"]["gru"].update(
        augment={"_target_": "framework.image.augment.compose.Compose", "transforms": [n]}
    ),
    "the training": lambda c, n: c["fitted"]["gru"].update(training=n),
    "the schedule": lambda c, n: c["fitted"]["gru"]["training"].update(schedule=n),
    "the mesh": lambda c, n: c["fitted"]["gru"]["training"].update(mesh=n),
    "a number": lambda c, n: c["fitted"]["gru"].update(width=n),
    "a list": lambda c, n: c["fitted"]["gru"].update(hidden=[n]),
    "a member": lambda c, n: c["fitted"].update(
        gru={
            "_target_": "framework.forecast.ensembles.ensemble.Voting",
            "combine": "mean",
            "members": {"a": FLOOR, "b": n},
        }
    ),
    "the intervals": lambda c, n: c.update(intervals=n),
    "the reader": lambda c, n: c["data"].update(reader=n),
    "a variable of the reader": lambda c, n: c["data"]["reader"]["variables"].update(score=n),
    "an event": lambda c, n: c["data"].update(events={"a": n}),
    "all events": lambda c, n: c["data"].update(events=n),
    "the data": lambda c, n: c["data"].update(n),
}


def places() -> Iterator[Payload]:
    """Targets wherever a configuration holds something."""
    for where, put in NODES.items():
        for name in NESTED if where in ("the head", "a member", "the reader", "the intervals") else NESTED[1:3]:

            def edit(config, manifest, run, victim, put=put, name=name):
                put(config, call(name, victim, **({"_partial_": True} if name.startswith("framework") else {})))

            yield Payload("places", f"{where} is {name}", received(edit))
    for key in ("_args_", "_recursive_", "_convert_"):

        def edit(config, manifest, run, victim, key=key):
            config["fitted"]["gru"][key] = ["touch x"] if key == "_args_" else False

        yield Payload("places", f"the model has {key}", received(edit))
    beside = {"tracking": "framework.runs.tracking.MLflow", "hosts": "framework.train.mesh.Hosts"}
    beside |= {"mesh": "evil.Evil", "hydra": "evil.Evil", "split": "evil.Evil"}
    for key, name in beside.items():

        def edit(config, manifest, run, victim, key=key, name=name):
            config[key] = {"callbacks": {"x": call(name, victim)}} if key == "hydra" else call(name, victim)

        yield Payload("places", f"beside the model, {key} is {name}", received(edit), refused=False)


def resolvers() -> Iterator[Payload]:
    """What OmegaConf would resolve when it is read."""
    texts = (
        "${oc.env:HOME}",
        "${oc.env:SECRET,x}",
        "${oc.decode:'[1]'}",
        "${oc.create:{_target_: os.mkdir}}",
        "${now:%Y}",
    )
    texts += (
        "${hydra:runtime.cwd}",
        "${data.name}",
        "${oc.select:data}",
        "${evil:x}",
        "\\${oc.env:HOME}",
        "${oc.dict.keys:data}",
    )
    for text in texts:

        def edit(config, manifest, run, victim, text=text):
            config["data"]["name"] = text

        yield Payload("resolvers", f"the cohort is called {text}", received(edit))

    def key(config, manifest, run, victim):
        config["fitted"]["${oc.env:HOME}"] = config["fitted"].pop("gru")

    def path(config, manifest, run, victim):
        config["data"]["reader"]["path"] = "${oc.env:HOME}/.ssh/id_rsa"

    yield Payload("resolvers", "a model is called ${oc.env:HOME}", received(key))
    yield Payload("resolvers", "a path holds ${oc.env:HOME}", received(path))


TEXTS = {
    "aliases that unfold": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nfitted: *c\n",
    "an apply tag": "fitted: !!python/object/apply:os.system ['touch x']\n",
    "a name tag": "fitted: !!python/name:os.system\n",
    "a module tag": "fitted: !!python/module:evil\n",
    "an object tag": "fitted: !!python/object:evil.Evil {}\n",
    "a new-object tag": "fitted: !!python/object/new:evil.Evil {}\n",
    "no mapping": "- 1\n",
    "a word": "fitted\n",
    "nothing": "# nothing\n",
    "no YAML": "a: [\n",
    "a deep list": "fitted: " + "[" * 3000 + "]" * 3000 + "\n",
    "keys twice": "fitted: {a: 1}\nfitted: {_target_: os.mkdir}\n",
    "control characters": "fitted: \x00\n",
    "many bytes": "fitted: {a: '" + "x" * 2**23 + "'}\n",
    "a merge": "<<: {fitted: {gru: {_target_: os.mkdir}}}\ndata: {}\n",
}


def texts() -> Iterator[Payload]:
    """Configurations and manifests that are no such thing."""
    for name, text in TEXTS.items():
        yield Payload("texts", f"a configuration with {name}", received(lambda c, m, r, v, text=text: text))
    changes: Mapping[str, Callable[[dict], object]] = {
        "no schema": lambda m: m.pop("schema"),
        "a schema that is a list": lambda m: m.update(schema=[]),
        "variables that are numbers": lambda m: m["schema"].update(variables=[1]),
        "variables with other keys": lambda m: m["schema"]["variables"][0].update(_target_="os.mkdir"),
        "levels that are a number": lambda m: m["schema"]["variables"][1].update(levels=3),
        "no variables": lambda m: m["schema"].update(variables=[]),
    }
    for name, change in changes.items():
        yield Payload(
            "texts", f"a manifest with {name}", received(lambda c, m, r, v, change=change: change(m) and None)
        )

    def unsealed(base: Base, work: Path, victim: Path) -> list[str]:
        words = received(lambda c, m, r, v: m.update(command="x\nerror: fine; touch x") and None)(base, work, victim)
        (work / "received" / "config.yaml").write_text("a: 1\n")
        return [*words]

    yield Payload("texts", "a damaged run whose command is a shell's", unsealed)


def whole(text: str) -> dict[str, str]:
    """An experiment's file that writes to the whole configuration."""
    return {"experiment/mine.yaml": f"# @package _global_\n{text}\n"}


EVIL_CALL = "{_target_: evil.run}"
FOLDERS: Mapping[str, dict[str, str]] = {
    "trust": whole("trust: [evil]\nmodel: {_target_: evil.Evil}"),
    "a callback": whole(f"hydra: {{callbacks: {{x: {EVIL_CALL}}}}}"),
    "a callback of ours": whole("hydra: {callbacks: {x: {_target_: framework.native.register, name: x, source: y}}}"),
    "a compiler": whole("hydra: {job: {env_set: {CXX: './evil.sh'}}}"),
    "a cache": whole("hydra: {job: {env_set: {XDG_CACHE_HOME: '{victim}'}}}"),
    "a preloaded library": whole("hydra: {job: {env_set: {LD_PRELOAD: './evil.so'}}}"),
    "a log file": whole(
        "hydra: {job_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {class: logging.FileHandler, "
        "filename: '{victim}/precious.txt', mode: w}}}}"
    ),
    "a log handler": whole("hydra: {job_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {(): evil.run}}}}"),
    "Hydra's own log": whole(
        "hydra: {hydra_logging: {version: 1, root: {handlers: [f]}, handlers: {f: {(): evil.run}}}}"
    ),
    "a working folder": whole("hydra: {run: {dir: '{victim}'}, job: {chdir: true}}"),
    "an output folder": whole("hydra: {output_subdir: '{victim}/x'}"),
    "a sweep's folder": whole("hydra: {mode: MULTIRUN, sweep: {dir: '{victim}/x'}}"),
    "a launcher": whole(f"hydra: {{mode: MULTIRUN, launcher: {EVIL_CALL}}}"),
    "a sweeper": whole(f"hydra: {{mode: MULTIRUN, sweeper: {EVIL_CALL}}}"),
    "a database": whole("defaults: [{override /hydra/sweeper: optuna}]\nhydra: {sweeper: {storage: '{victim}/x'}}"),
    "a shell line": whole("hydra: {launcher: {setup: ['touch {victim}/x']}}"),
    "a Slurm launcher": whole("defaults: [{override /hydra/launcher: submitit_slurm}]\nhydra: {mode: MULTIRUN}"),
    "a default log": whole("defaults: [{override /hydra/job_logging: default}]"),
    "a search path": whole("hydra: {searchpath: ['pkg://evil']}"),
    "a swept trust": whole(
        "hydra: {mode: MULTIRUN, sweeper: {params: {trust: '[evil],[os]'}}}\nmodel: {_target_: evil.Evil}"
    ),
    "a swept folder": whole("hydra: {mode: MULTIRUN, sweeper: {params: {hydra.run.dir: '{victim}'}}}"),
    "a package of Hydra's": whole("defaults: ['/data/oasis2@hydra.callbacks.x']"),
    "a header of Hydra's": {"experiment/mine.yaml": f"# @package hydra.callbacks\nx: {EVIL_CALL}\n"},
    "a file of Hydra's": whole("defaults: [{override /hydra/job_logging: mine}]")
    | {"hydra/job_logging/mine.yaml": "version: 1\nhandlers: {f: {(): evil.run}}\n"},
    "a model of evil": whole("model: {_target_: evil.Evil}"),
    "a model of os": whole("model: {_target_: os.remove, path: '{victim}/precious.txt'}"),
    "a model that is written": whole("model: {_target_: framework.files.write_whole, path: '{victim}/x', text: x}"),
    "a tracker of evil": whole("tracking: {_target_: evil.Evil}"),
    "a tracker elsewhere": whole(
        "tracking: {_target_: framework.runs.tracking.MLflow, file: '{victim}/x.db', experiment: x}"
    ),
    "a reader of evil": whole("data: {reader: {_target_: evil.Evil}}"),
    "an event of evil": whole("data: {events: {a: {_target_: evil.Evil}}}"),
    "runs elsewhere": whole("runs: '{victim}'"),
    "runs above": whole("runs: ../victim"),
    "a cohort elsewhere": whole("data: {store: '{victim}'}"),
    "a cohort of the home": whole("data: {store: '${oc.env:HOME}/../victim'}"),
    "a cohort by URL": whole("data: {store: 'file://{victim}'}"),
    "a cohort's name": whole("data: {name: ../../victim/x}"),
    "an experiment's name": whole("experiment: ../../victim/x"),
    "a package to import": whole("data: {path: 'package:evil/x.csv'}"),
    "a package within": whole("data: {path: 'package:mypackage.heads/x.csv'}"),
    "a package above": whole("data: {path: 'package:mypackage/../../victim/precious.txt'}"),
    "a name with an end of line": whole('data: {name: "a\\nb"}'),
}


def folders() -> Iterator[Payload]:
    """Configuration folders under `--config-dir`."""
    for name, files in FOLDERS.items():

        def bring(base: Base, work: Path, victim: Path, files=files) -> list[str]:
            bring_evil(work, victim)
            write_table(work / "visits.csv", table(9))
            for file, text in files.items():
                (work / "conf_d" / file).parent.mkdir(parents=True, exist_ok=True)
                (work / "conf_d" / file).write_text(text.replace("{victim}", str(victim)))
            words = [
                word for word in study("visits.csv") if not (word.startswith("data.path") and "path:" in str(files))
            ]
            return ["--config-dir", "conf_d", "+experiment=mine", "report=false", "resamples=100", *words]

        yield Payload("configuration folders", f"a folder sets {name}", bring, "forecast")

    def option(*words: str) -> Bring:
        def bring(base: Base, work: Path, victim: Path) -> list[str]:
            bring_evil(work, victim)
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


class Reduces:
    """A pickle that runs a line of shell."""

    def __init__(self, line: str):
        self.line = line

    def __reduce__(self):
        return os.system, (self.line,)


def arrays() -> Iterator[Payload]:
    """Files of arrays that hold pickles, or nothing that is an array."""

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


def names() -> Iterator[Payload]:
    """Names that become paths, columns or commands."""
    odd = ("..", ".", "../../../evil", "a/b", "=1+1", "x" * 300, "-x", "a\nb", "\u0000")
    for name in odd:

        def model(config, manifest, run, victim, name=name):
            config["fitted"][name] = config["fitted"].pop("gru")

        def cohort(config, manifest, run, victim, name=name):
            config["data"]["name"] = name

        yield Payload("names", f"a model called {name[:20]!r}", received(model))
        yield Payload("names", f"a cohort called {name[:20]!r}", received(cohort))
        if name != "a/b":

            def target(config, manifest, run, victim, name=name):
                config["data"]["targets"] = [name]
                manifest["schema"]["variables"][0]["name"] = name

            yield Payload("names", f"a target called {name[:20]!r}", received(target))
    for name in ("../../../evil", "a/b", "=x", "x" * 300):

        def modality(config, manifest, run, victim, name=name):
            one = {
                "name": name,
                "shape": [2, 2, 2],
                "spacing": [1.0, 1.0, 1.0],
                "channels": 1,
                "units": "x",
                "background": 0.0,
            }
            manifest["schema"]["modalities"] = [one]

        yield Payload("names", f"a modality called {name[:20]!r}", received(modality))


def paths() -> Iterator[Payload]:
    """Files of this machine that a run names."""

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


FORMULAS = ("=cmd|'/C calc'!A0", "+1+cmd", "-2+3", "@SUM(1)", "\t=1", "＝1", " =1", "'=1", "=HYPERLINK(x)")


def tables() -> Iterator[Payload]:
    """Tables whose cells are formulas to a spreadsheet, or no cells at all."""

    def formulas(work: Path) -> list[str]:
        found = []
        for file in work.rglob("*.csv"):
            if file.name == "new.csv" or file.name == "visits.csv":
                continue
            for line in file.read_text().splitlines():
                first = line.lstrip('"')
                if first[:1] in tuple("=+@\t＝") or (first[:1] == "-" and not first[1:2].isdigit()):
                    found.append(f"{file.name}: {line[:40]}")
        return ["taken"] if found else []

    for name in FORMULAS:

        def bring(base: Base, work: Path, victim: Path, name=name) -> list[str]:
            shutil.copytree(base.run, work / "received")
            write_table(work / "new.csv", table(3, [name], seed=1))
            return ["run=received", "data.path=new.csv", "ahead=[1]"]

        yield Payload("tables", f"a subject called {name!r}", bring, refused=False, after=formulas)
    contents = {
        "a pickle": pickle.dumps([1]),
        "nothing": b"",
        "a shell's line": b"#!/bin/sh\ntouch x\n",
        "NUL": b"id,time\n\x00,1\n",
        "one long line": b"id" * 2**20,
    }
    for name, content in contents.items():

        def bring(base: Base, work: Path, victim: Path, content=content) -> list[str]:
            shutil.copytree(base.run, work / "received")
            (work / "new.csv").write_bytes(content)
            return ["run=received", "data.path=new.csv", "ahead=[1]"]

        yield Payload("tables", f"a table of {name}", bring)
