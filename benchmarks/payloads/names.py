"""Names that become paths, columns or commands."""

from collections.abc import Iterator

from benchmarks.payloads.making import Payload, received


def payloads() -> Iterator[Payload]:
    """Payloads with such names of models, cohorts, targets and modalities."""
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
