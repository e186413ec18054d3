"""Interpolations that OmegaConf would resolve when it reads a configuration."""

from collections.abc import Iterator

from benchmarks.payloads.making import Payload, received


def payloads() -> Iterator[Payload]:
    """Payloads with interpolations in names and paths."""
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
