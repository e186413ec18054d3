from framework.report.exhibits import cost
from framework.report.svg import pens
from tests.report.conftest import COSTS

PENS = pens(["slope", "cnn_gru"], ["slope"])


def cells(costs) -> dict:
    return {
        (key, row[0].text): cell.text
        for table in cost.tables(costs)
        for row in table.rows
        for key, cell in zip(table.data.columns[1:], row[1:], strict=True)
    }


def test_figures_in_their_units():
    told = cells(COSTS)
    assert told["step_flops", "cnn_gru"] == "20.837"
    assert told["peak_share", "cnn_gru"] == "40.0"
    assert told["waiting", "cnn_gru"] == "2.1"
    assert told["bound", "cnn_gru"] == "compute"
    assert told["scans_per_second", "slope"] == told["peak_memory", "slope"] == "–"


def test_what_no_model_has_is_left_out():
    told = cells({"slope": COSTS["slope"]})
    assert {key for key, _ in told} == {"members", "steps", "compile_seconds", "seconds"}
    assert cost.tables({}) == []


def test_the_roof_is_that_of_the_machine():
    drawn = cost.roof(COSTS, PENS)
    assert drawn is not None
    assert drawn.note == "peak 110 GFLOP/s, 20 GB/s"
    assert "cnn_gru: 44 GFLOP/s at 13" in drawn.svg
    assert cost.roof({"slope": COSTS["slope"]}, PENS) is None


def test_what_is_not_counted_is_named():
    assert cost.uncounted(COSTS) == ["fft"]
