"""Sections of the page: found by listing their package, two files each, left out where the run lacks what they need."""

import sys
from pathlib import Path

from framework.report import page
from framework.report import sections as package
from framework.report.sections.base import sections

TOY = '''
"""A toy section."""

from framework.report.sections.base import Section

SECTION = Section("toy", "A toy", 15, lambda page: {"subjects": len(page.run.outcomes[0].subjects)}, needs=("history",))
'''


def add_toy(tmp_path, monkeypatch) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "toy.py").write_text(TOY)
    (tmp_path / "templates" / "sections").mkdir(parents=True)
    (tmp_path / "templates" / "sections" / "toy.html").write_text("<p>{{ content.subjects }} subjects play.</p>\n")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / "code")])
    plain = page.environment
    monkeypatch.setattr(page, "environment", lambda: plain(tmp_path / "templates"))


def test_a_section_is_a_module_and_a_template(folder, tmp_path, monkeypatch):
    add_toy(tmp_path, monkeypatch)
    try:
        text = page.build(folder).read_text()
    finally:
        sys.modules.pop("framework.report.sections.toy", None)
    assert "<p>40 subjects play.</p>" in text
    assert text.index('id="results"') < text.index('id="toy"') < text.index('id="trajectories"')
    assert '<a href="#toy">A toy</a>' in text


def test_every_section_has_a_template_and_an_order_of_its_own():
    templates = Path(page.__file__).parent / "templates" / "sections"
    found = sections()
    assert {f"{section.id}.html" for section in found} == {file.name for file in templates.iterdir()}
    assert len({section.order for section in found}) == len({section.id for section in found}) == len(found)
