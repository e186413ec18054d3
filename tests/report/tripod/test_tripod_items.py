import re

from framework.digests import seal
from framework.report import finished_run as runs
from framework.report.methods import text
from framework.report.tripod import tripod_items


def items(folder) -> dict[str, tuple[str, str]]:
    run = runs.read(folder)
    table = tripod_items.table(run, text.section(run))
    return {row[1].text: (row[3].text, row[4].text) for row in table.rows}


def test_all_27_items_are_there_in_order():
    numbers = [item.number for some in tripod_items.ITEMS.values() for item in some]
    assert list(dict.fromkeys(int(re.match(r"\d+", n)[0]) for n in numbers)) == list(range(1, 28))
    assert len(set(numbers)) == len(numbers) == 52


def test_what_the_run_knows_is_told(folder):
    told = items(folder)
    assert (
        told["20a"][0]
        == "40 subjects in the cohort, 40 of them tested; used: 40 subjects, 120 visits; excluded: 1 subjects, 1 visits."
    )
    assert "one visit alone (1)" in told["6b"][0]
    assert "CDR: 0.0 " in told["13"][0]
    assert "by sex" in told["14"][0]
    assert "MMSE: MAE (points) 1.68 [0.99, 2.36] (cnn_gru)" in told["23a"][0]
    assert told["19"] == ("", tripod_items.AUTHOR)


def test_what_it_does_not_know_is_the_authors(folder):
    full = items(folder)
    for name in ("participants.json", "ledger.csv", "subgroups.json", "config.yaml"):
        (folder / name).unlink()
    seal(folder)
    bare = items(folder)
    for number in ("5b", "6b", "9b", "11", "12a", "12c", "14", "20b", "23b"):
        assert full[number][0], number
        assert bare[number] == ("", tripod_items.AUTHOR), number
