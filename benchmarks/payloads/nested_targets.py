"""Callables within a configuration: at every place that holds a part of a model, of the data or of the run."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.payloads.making import Payload, received
from benchmarks.payloads.targets import call

REFERENCE = {"_target_": "framework.forecast.references.LastVisit", "trend": False}

NESTED = ("os.remove", "evil.Evil", "framework.native.register", "framework.files.write_atomic", "optax.adamw")

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
            "members": {"a": REFERENCE, "b": n},
        }
    ),
    "the intervals": lambda c, n: c.update(intervals=n),
    "the reader": lambda c, n: c["data"].update(reader=n),
    "a variable of the reader": lambda c, n: c["data"]["reader"]["variables"].update(score=n),
    "an event": lambda c, n: c["data"].update(events={"a": n}),
    "all events": lambda c, n: c["data"].update(events=n),
    "the data": lambda c, n: c["data"].update(n),
}


def payloads() -> Iterator[Payload]:
    """Payloads with targets at every place of a configuration."""
    for where, put in NODES.items():
        for name in NESTED if where in ("the head", "a member", "the reader", "the intervals") else NESTED[1:3]:

            def edit(config, manifest, run, victim, put=put, name=name):
                put(config, call(name, victim, **({"_partial_": True} if name.startswith("framework") else {})))

            yield Payload("nested targets", f"{where} is {name}", received(edit))
    for key in ("_args_", "_recursive_", "_convert_"):

        def edit(config, manifest, run, victim, key=key):
            config["fitted"]["gru"][key] = ["touch x"] if key == "_args_" else False

        yield Payload("nested targets", f"the model has {key}", received(edit))
    beside = {"tracking": "framework.runs.tracking.MLflow", "hosts": "framework.train.mesh.Hosts"}
    beside |= {"mesh": "evil.Evil", "hydra": "evil.Evil", "split": "evil.Evil"}
    for key, name in beside.items():

        def edit(config, manifest, run, victim, key=key, name=name):
            config[key] = {"callbacks": {"x": call(name, victim)}} if key == "hydra" else call(name, victim)

        yield Payload("nested targets", f"beside the model, {key} is {name}", received(edit), refused=False)
