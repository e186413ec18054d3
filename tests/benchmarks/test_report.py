import json
import re

import pytest

from benchmarks import plots, report
from framework.errors import UserError

RATES = {"float32": 1e11, "memory": 1e10}
CPU = {"device": "cpu", "machine": {"processor": "A processor", "cores": 2}, "rates": RATES}


def times(ms: float) -> dict:
    return {"median_ms": ms, "spread_ms": [0.9 * ms, 1.2 * ms]}


CASE = {
    "flops": 2 * 10**9,
    "bytes": 10**8,
    "compile_seconds": 2.5,
    "times": {"prognax": times(100.0), "torch eager": times(150.0)},
    "ratio": 1.5,
    "ratio_spread": [1.4, 1.6],
}
STEP = {"benchmark": "step", "ratio": 1.5, "cases": {"64³×4": CASE, "other": {"times": {"prognax": times(1.0)}}}, **CPU}
CEILING = {"benchmark": "ceiling", "device": "cpu", "ratio": 0.61, "cases": {"slope": 3.34, "oracle": None}}
LISTED = {"benchmark": "listed", "device": "A card", "cases": [{"name": "one", "wait": {"share": 0.05}}, {"x": [1, 2]}]}


@pytest.fixture
def folder(tmp_path):
    for name, result in {"step-cpu": STEP, "step-cpu-plain": STEP, "ceiling": CEILING, "listed": LISTED}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    (tmp_path / "notes.json").write_text("[1, 2]")
    return tmp_path


def words(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def test_every_result_is_on_the_page(folder):
    report.main(folder, folder / "report.html")
    page = (folder / "report.html").read_text()
    text = words(page)
    assert "A processor, 2 cores" in text
    assert "100.0 [90.0, 120.0]" in text
    assert "1.50 [1.40, 1.60]" in text
    assert "2.00 100 20.0 20.0 20% compute" in text
    assert "step, plain" in text
    assert "slope 3.34 oracle –" in text
    assert "one 0.05 – 1 – 1–2" in text
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {name for name in re.findall(r'href="#([^"]+)"', page)} <= set(ids)


def test_the_page_needs_nothing_else(folder):
    text = report.page(report.read(folder))
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "url(" not in text.replace("url(#", "")
    assert "default-src 'none'" in text
    assert text == report.page(report.read(folder))


def test_words_of_a_result_are_no_markup(tmp_path):
    evil = '<script>alert("x")</script>'
    result = {**STEP, "benchmark": evil, "device": evil, "cases": {evil: {**CASE, "times": {evil: times(1.0)}}}}
    (tmp_path / "a.json").write_text(json.dumps(result))
    assert "<script>alert" not in report.page(report.read(tmp_path))


def test_figures_of_throughput_and_of_the_peak():
    drawn = report.pens(["prognax", "torch eager"], ["torch eager"])
    throughput, share, roof = plots.panels({"64³×4": CASE}, RATES, drawn, "s")
    assert "prognax 40, torch eager 26.7" in throughput.svg  # 4 scans in 100 ms
    assert "prognax 20, torch eager 13.3" in share.svg
    assert roof.note == "peak 100 GFLOP/s, 10 GB/s"
    assert list(plots.panels({"unknown": {"times": CASE["times"]}}, RATES, drawn, "s")) == []
    assert len(list(plots.panels({"64³×4": CASE}, {}, drawn, "s"))) == 1


def test_older_results_use_the_rates_of_newer_ones(folder):
    (folder / "older.json").write_text(json.dumps({**STEP, "benchmark": "older", "rates": None}))
    assert "rates" not in CEILING
    assert words(report.page(report.read(folder))).count("20% compute") == 3


def test_nothing_to_show_and_what_is_no_json(tmp_path):
    with pytest.raises(UserError, match="holds no results; measure some first"):
        report.read(tmp_path)
    (tmp_path / "torn.json").write_text('{"benchmark": ')
    with pytest.raises(UserError, match=r"torn.json is no JSON"):
        report.read(tmp_path)
