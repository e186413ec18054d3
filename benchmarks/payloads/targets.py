"""Callables in the place of the model: programs, functions of Python, of packages and of this framework."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.payloads.making import Payload, received

CALLS: Mapping[str, dict[str, Any]] = {  # targets, with arguments that would do harm
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
    "framework.config.targets.find_target": {"name": "evil.Evil", "place": "", "trust": ["evil"]},
    "framework.config.targets.import_module": {"name": "evil"},
    "framework.config.validate.validate_config": {"config": {}, "trust": ["evil"]},
    "framework.runs.predict.predict": {"config": {"run": "received", "trust": ["evil"]}},
    "framework.config.received.read_config": {"run": "received", "trust": ["evil"]},
    "framework.runs.job.instantiate": {"config": {"_target_": "os.mkdir", "path": "{victim}/x"}},
    "framework.runs.job.Job": {},
    "framework.runs.folder.RunFolder": {"path": "{victim}"},
    "framework.runs.folder.shutil.rmtree": {"path": "{victim}"},
    "framework.runs.folder.os.system": {"command": "touch {victim}/x"},
    "framework.sweeps.pool.ProcessPool": {},
    "framework.cli.command.command": {"config_name": "forecast"},
    "framework.runs.tracking.TensorBoard": {"folder": "{victim}"},
    "framework.runs.tracking.MLflow": {"file": "{victim}/x.db", "experiment": None},
    "framework.files.write_atomic": {"path": "{victim}/precious.txt", "text": ""},
    "framework.digests.seal": {"run": "{victim}"},
    "framework.digests.unseal": {"run": "{victim}"},
    "framework.train.array_io.save_arrays": {"path": "{victim}", "state": []},
    "framework.train.mesh.Hosts": {"coordinator_address": "127.0.0.1:9", "num_processes": 2, "process_id": 0},
    "framework.report.tables.write": {"tables": [], "folder": "{victim}"},
    "framework.report.page.build": {"folder": "{victim}"},
    "framework.data.cohort.store.atomic.discard": {"path": "{victim}"},
    "framework.data.cohort.store.writing.write": {"path": "{victim}", "schema": None, "subjects": []},
    "framework.data.ingest.base.ingest": {"reader": None, "store": "{victim}", "if_exists": "overwrite"},
    "framework.data.ingest.table.Table": {"path": "/etc/passwd", "subject": "x", "time": {}},
    "framework.nn.heads.mean_pool.MeanPool": {"features": 3},
    "framework.nn.heads.gru.GRU": {"features": 3},
    "framework.forecast.ensembles.crossfit.Deep": {},
    "framework.forecast.ensembles.crossfit.CrossFit.load": {},
    "framework.forecast.base.Forecaster": {},
    "framework.image.augment.Flip": {"probability": 0.5},
    "framework": {},
    "framework.": {},
    ".os.system": {},
    "framework..launch.predict.predict": {},
    "framework.config/../../evil.Evil": {},
}


def filled(node: Any, victim: Path) -> Any:
    """Insert the victim's folder into a value."""
    if isinstance(node, dict):
        return {key: filled(value, victim) for key, value in node.items()}
    if isinstance(node, list):
        return [filled(value, victim) for value in node]
    return node.replace("{victim}", str(victim)) if isinstance(node, str) else node


def call(name: str, victim: Path, **more: Any) -> dict[str, Any]:
    """Return a node that would call a target."""
    return {"_target_": name} | filled(CALLS.get(name, {}), victim) | more


def payloads() -> Iterator[Payload]:
    """Payloads with any callable in the place of the model, whole or partial."""
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
