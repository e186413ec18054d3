"""Every class that conf/ names, and every metric, has its words; every reference that is named is there, and no other."""

import importlib
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import yaml

from framework.digests import seal
from framework.evaluate.inference.corrected_ttest import widening
from framework.evaluate.metrics.registry import metrics_for
from framework.report import finished_run as runs
from framework.report.methods import bibliography, method_phrases
from framework.report.methods import text as methods
from framework.report.methods.files import methods_files
from framework.report.spread import Resampling
from framework.types import Categorical, Event, Number
from tests.contracts.recipes import CONF

TARGETS = (
    Number("n", 0, "1"),
    Categorical("c", 0, ("a", "b")),
    Categorical("d", 0, ("a", "b", "c")),
    Event("e", (1.0, 2.0)),
)
COMPUTED = {"candidates"}  # settings that are counted, not read


def nodes(tree):
    if isinstance(tree, dict):
        if "_target_" in tree:
            yield tree
        for child in tree.values():
            yield from nodes(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from nodes(child)


def test_what_conf_names_is_in_words():
    for file in sorted(CONF.rglob("*.yaml")):
        for node in nodes(yaml.safe_load(file.read_text())):
            name = node["_target_"]
            if name.startswith(("framework.runs.", "framework.sweeps.", "hydra_plugins.")):
                continue  # how jobs are run, no method
            owed = f"say in framework/report/methods/methods.yaml what {name} is, and whom it is owed to"
            assert name in method_phrases.vocabulary(), owed
            settings = method_phrases.SETTING.findall(method_phrases.fitting(node)["says"])
            assert set(settings) <= {*node, *COMPUTED}, f"{name} of {file} has not all of {settings}"


def test_every_metric_is_in_words():
    for target in TARGETS:
        for metric in metrics_for(target):
            assert methods._path(metric) in method_phrases.vocabulary()


def test_words_are_about_what_there_is():
    for name in method_phrases.vocabulary():
        if "." in name:
            module, _, member = name.rpartition(".")
            assert hasattr(importlib.import_module(module), member), name


def test_references_are_complete_and_used():
    said = [one["says"] for some in method_phrases.vocabulary().values() for one in some]
    code = [file.read_text() for file in Path(str(files("framework.report"))).rglob("*.py")]
    mentioned = {key for text in [*said, *code] for key in re.findall(r"@([a-z]+\d{4}\w*)", text)}
    assert mentioned == set(bibliography.library())
    for entry in bibliography.library().values():
        assert {"author", "title", "year"} <= set(entry.fields), entry.key
        assert entry.fields["year"] in entry.key
        assert not set("{}\\") & set(entry.plain), entry.plain


def test_a_reference_in_plain_words():
    plain = bibliography.library()["bates2015"].plain
    assert plain == (
        "Bates D, Mächler M, Bolker B & Walker S (2015). Fitting Linear Mixed-Effects Models Using lme4. "
        "Journal of Statistical Software 67(1), 1–48."
    )
    assert bibliography.library()["vaswani2017"].plain.startswith("Vaswani A et al. (2017).")


def test_mentions_become_numbers_and_citations():
    text = "a & b [@cho2014; @che2018], again [@che2018]"
    entries = bibliography.mentioned([text])
    assert [entry.key for entry in entries] == ["cho2014", "che2018"]
    assert str(bibliography.as_html(text, entries)).count('<a href="#ref-che2018">2</a>') == 2
    assert bibliography.as_latex(text, lambda words: words.replace("&", r"\&")).startswith(
        r"a \& b \cite{cho2014,che2018}"
    )


def test_wordings_by_setting():
    forest = {"_target_": "framework.baselines.trees.forest.Forest", "trees": 300}
    assert method_phrases.wording(forest | {"extra": True}).startswith("300 extremely randomised trees")
    assert method_phrases.wording(forest | {"extra": False}).startswith("a random forest")
    own = {"_target_": "mine.Net"}
    assert method_phrases.wording(own) == "Net (mine.Net)"


def test_clauses_are_those_of_the_targets():
    ridge = {"_target_": "framework.baselines.linear.ridge.Ridge", "_partial_": True}
    candidates = {
        "_target_": method_phrases.CANDIDATES,
        "estimator": ridge,
        "grid": {"penalty": [1, 2], "b": [1, 2, 3]},
    }
    tabular = {
        "_target_": "framework.forecast.tabular.forecaster.Tabular",
        "classifier": candidates,
        "regressor": candidates,
        "folds": 5,
    }
    told = list(method_phrases.clauses(tabular, ["numbers"]))
    assert told[1:] == ["for numbers ridge regression [@hoerl1970] (6 candidate settings)"]
    assert len(list(method_phrases.clauses(tabular, ["numbers", "classes"]))) == 3
    deep = {"_target_": "framework.forecast.deep.forecaster.Deep", "ordinal": True}
    assert "mccullagh1980" in " ".join(method_phrases.clauses(deep, ["classes"]))
    told = " ".join(method_phrases.clauses(deep | {"pretrained": "runs/x", "frozen": False}, ["classes"]))
    assert "encoders pretrained by reconstructing" in told
    assert "learning no more" not in told
    assert "gensheimer2019" in " ".join(method_phrases.clauses(deep, ["events"]))


def test_what_models_share_is_told_once(folder):
    shared = {"_target_": "framework.forecast.ensembles.ensemble.Voting", "combine": "mean"}
    own = shared | {"members": {"gru": {"_target_": "framework.nn.heads.gru.GRU", "features": 32}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 3, "fitted": {"one": shared, "two": own}}))
    seal(folder)
    parts = {part.title: part.text for part in methods.section(runs.read(folder))}
    assert parts["Models"].startswith(
        "one and two: the mean of the forecasts of several models.\n\ntwo: its members gru"
    )
    assert parts["Software"].endswith("seed 3.")
    files = {name: text for name, _, text in methods_files(methods.section(runs.read(folder)))}
    assert "[@cho2014]" in files["methods.md"]
    assert r"\cite{cho2014}" in files["methods.tex"]
    assert "@inproceedings{cho2014," in files["references.bib"]


def test_a_section_of_old_files_leaves_out_what_they_lack(folder):
    (folder / "config.yaml").unlink()
    seal(folder)
    titles = [part.title for part in methods.section(runs.read(folder))]
    assert "Models" not in titles
    assert "Partition" not in titles
    assert {"Participants", "Measures", "Software"} <= set(titles)


def test_intervals_are_told_as_they_are_made(folder):
    """What is widened by folds, from how many resamples, and which scores have percentiles, as the code has it."""
    run = runs.read(folder)

    def told(run) -> str:
        return {part.title: part.text for part in methods.section(run)}["Uncertainty and comparisons"]

    folded = {metric.name for one in run.outcomes for metric in metrics_for(one.target) if not metric.smooth}
    assert folded == {"CPA", "calibration error"}
    assert "Of CPA and calibration error, distances from an ideal, intervals are percentiles" in told(run)
    assert "from 500 resamples" in told(run)
    assert f"ends lie {widening(run.outcomes[0].fold):.2f} times as far from the estimate" in told(run)
    assert run.resampling == Resampling(500, 0)  # of figures and tables
    alone = [replace(one, fold=0 * one.fold) for one in run.outcomes]
    assert "They take the fitted model as given." in told(replace(run, outcomes=alone))
    assert "times as far" not in told(replace(run, outcomes=alone))
