import errno
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from framework.digests import seal
from framework.errors import UserError
from framework.evaluate import leaderboard, outcomes
from framework.report import page as html
from framework.types import Categorical

VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """Checks that every element is closed, and keeps tags, ids, references and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.ids, self.references, self.words = [], [], [], set(), []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open += [tag] if tag not in VOID else []
        self.ids += [value for name, value in attrs if name == "id"]
        self.references |= {value[1:] for name, value in attrs if name == "href" and value.startswith("#")}
        self.references |= {r for _, value in attrs for r in re.findall(r"url\(#(.*?)\)", value or "")}

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_a_fit_that_did_not_converge_is_said_on_the_page(text, folder):
    assert "Warning." not in text
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["warnings"] = {"svm": ["MMSE did not converge in 30 passes (2 of 10 fits)"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    seal(folder)
    words = " ".join("".join(Page(html.build(folder).read_text()).words).split())
    assert "Warning. svm: MMSE did not converge in 30 passes (2 of 10 fits)." in words


def test_the_page_holds_every_part(built):
    assert not built.changed
    tables = {"leaderboard.csv", "metrics-MMSE.tex"}
    assert {"report.html", "methods.md", "methods.tex", "references.bib", *tables} <= built.added
    page = Page(built.text)
    parts = {"results", "trajectories", "calibration", "horizon", "subgroups", "learning", "data", "cost", "reproduce"}
    parts |= {"explorer", "methods", "tripod"}
    assert parts <= set(page.ids)
    words = " ".join(page.words)
    manifest = json.loads((built.folder / "manifest.json").read_text())
    for told in (
        manifest["command"],
        manifest["data"]["fingerprint"],
        manifest["commit"],
        "one visit alone",
        "flax 0.12.8",
    ):
        assert told in words
    assert "cnn_gru has the lowest MAE (points)" in words
    assert "largest error" in words


def test_the_page_is_whole_by_itself(text):
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [
        value for _, attrs in page.tags for name, value in attrs.items() if name == "src" or "://" in (value or "")
    ]
    labels = [attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in page.tags if tag == "svg"]
    assert len(labels) > 30
    assert all(labels)


def test_figures_take_all_colours_from_the_page(text):
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert not [d for d in drawings if re.search(r"(fill|stroke): ?#", d)]
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used == {name for name in used if f"{name}:" in text}
    assert {"--model-0", "--model-1", "--model-2", "--ink", "--rule"} <= used


def test_the_same_run_makes_the_same_page(text, folder):
    assert html.build(folder).read_text() == text


def test_a_page_drawn_on_a_full_disk_leaves_the_old_one_whole(text, folder, monkeypatch):
    (folder / "report.html").write_text(text, encoding="utf-8")

    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            html.build(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == text


def test_words_from_the_run_are_never_markup(folder):
    evil = '<script>alert("x")</script>$x^2$ & id="1"'
    mmse, cdr, nwbv = outcomes.read(folder)
    rename = {"cnn_gru": evil}
    made = [
        replace(
            one,
            subjects=(*(f"{evil}{i}" for i in range(20)), *one.subjects[20:]),
            forecasts={rename.get(m, m): f for m, f in one.forecasts.items()},
            target=target,
        )
        for one, target in (
            (mmse, replace(mmse.target, units=evil)),
            (cdr, replace(cdr.target, levels=(evil, "0.5", "1.0", "2.0"))),
            (nwbv, replace(nwbv.target, units=evil)),
        )
    ]
    outcomes.write(made, folder)
    leaderboard.write(leaderboard.leaderboard(made, ["slope"], resamples=20), 20, folder)
    for name in ("manifest.json", "config.yaml", "ledger.csv", "metrics.jsonl", "cost.json"):
        path = folder / name
        said = {"manifest.json": "OASIS-2: cognition and atrophy", "config.yaml": "seed", "ledger.csv": "no such file"}
        quoted = json.dumps(evil)[1:-1] if "json" in name else evil.replace('"', "'")
        path.write_text(path.read_text().replace(said.get(name, "cnn_gru"), quoted))
    pd.DataFrame(
        [(f"{evil}{i}", "v0", "0.0", "CDR", evil) for i in range(20)],
        columns=["subject", "visit", "time", "target", "value"],
    ).to_csv(folder / "history.csv", index=False)
    seal(folder)
    text = html.build(folder).read_text()
    page = Page(text)
    assert "<script>alert" not in text
    assert len(re.findall("<script", text)) == 2
    assert evil in " ".join(page.words)
    assert len(page.ids) == len(set(page.ids))
    assert page.references <= set(page.ids)


def test_parts_that_are_absent_are_left_out_and_named(folder):
    for name in ("metrics.jsonl", "history.csv", "ledger.csv", "cost.json", "config.yaml", "participants.json"):
        (folder / name).unlink()
    seal(folder)
    page = Page(html.build(folder).read_text())
    assert not {"learning", "trajectories", "cost", "explorer"} & set(page.ids)
    assert "results" in page.ids
    footer = " ".join(page.words)
    for name in ("metrics.jsonl", "history.csv", "ledger.csv", "cost.json", "config.yaml"):
        assert name in footer


def test_floors_alone_and_classes_without_order(folder):
    mmse, cdr, _ = outcomes.read(folder)
    last = {"last_visit": mmse.forecasts["last_visit"]}
    diagnosis = Categorical("DX", 3, ("CN", "MCI", "AD", "other"))
    made = [
        replace(mmse, forecasts=last),
        replace(cdr, target=diagnosis, forecasts={"last_visit": cdr.forecasts["slope"]}),
    ]
    outcomes.write(made, folder)
    leaderboard.write(leaderboard.leaderboard(made, ["last_visit"], resamples=20), 20, folder)
    (folder / "metrics.jsonl").unlink()
    seal(folder)
    text = html.build(folder).read_text()
    assert "the most probable class" in text
    assert "last_visit has the highest mAUC" in text


def test_what_is_undefined_is_said(folder):
    mmse, cdr, _ = outcomes.read(folder)
    made = [mmse, replace(cdr, truth=np.zeros_like(cdr.truth))]
    outcomes.write(made, folder)
    leaderboard.write(leaderboard.leaderboard(made, ["slope"], resamples=20), 20, folder)
    seal(folder)
    words = " ".join(Page(html.build(folder).read_text()).words)
    assert "AUC is not estimable: all outcomes are alike." in words
    assert "AUC of CDR (20 of 20)" in words


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match=r"no manifest\.json"):
        html.build(tmp_path)
