"""Configurations and manifests that are malformed."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.payloads.making import Base, Payload, received

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


def payloads() -> Iterator[Payload]:
    """Payloads whose configuration or manifest is malformed."""
    for name, text in TEXTS.items():
        yield Payload("malformed files", f"a configuration with {name}", received(lambda c, m, r, v, text=text: text))
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
            "malformed files", f"a manifest with {name}", received(lambda c, m, r, v, change=change: change(m) and None)
        )

    def unsealed(base: Base, work: Path, victim: Path) -> list[str]:
        words = received(lambda c, m, r, v: m.update(command="x\nerror: fine; touch x") and None)(base, work, victim)
        (work / "received" / "config.yaml").write_text("a: 1\n")
        return [*words]

    yield Payload("malformed files", "a damaged run whose command is a shell's", unsealed)
