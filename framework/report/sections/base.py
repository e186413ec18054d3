"""The sections of a run's page: each is a module of this package with a `SECTION`, and a template of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from framework.evaluate.outcomes import Outcomes
from framework.report.finished_run import Run
from framework.report.methods.text import Part
from framework.report.svg import Pen

Content = Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """A run with the style of each of its models and its methods section: all that a section may show."""

    run: Run
    pens: dict[str, Pen]
    methods: Sequence[Part]

    def named_targets(self) -> list[tuple[str, Outcomes]]:
        """The outcomes of every target, with a name for the ids of its figures."""
        return [(f"t{i}", outcomes) for i, outcomes in enumerate(self.run.outcomes)]


@dataclass(frozen=True)
class Section:
    """One section of the page, drawn by `templates/sections/<id>.html` from what `render` makes of the page.

    It is left out where the run has not all parts that it `needs` (fields of `Run`), or where `render` returns None.
    Sections stand in ascending `order`. `script` is a template of JavaScript that the section brings. Every `Table`
    within the content is also written to the run's folder.

    Example:
        >>> SECTION = Section("subjects", "Subjects", 75, lambda page: {"count": len(page.run.outcomes[0].subjects)})
    """

    id: str
    title: str
    order: int
    render: Callable[[Page], Content | None]
    needs: tuple[str, ...] = ()
    script: str | None = None

    @property
    def template(self) -> str:
        """The path of the template."""
        return f"sections/{self.id}.html"

    def content(self, page: Page) -> Content | None:
        """The values of the template; None where the section is left out."""
        if any(not _present(getattr(page.run, part)) for part in self.needs):
            return None
        return self.render(page)


def sections() -> list[Section]:
    """Every section, in its order."""
    package = __name__.rpartition(".")[0]
    names = [f"{package}.{module.name}" for module in iter_modules(import_module(package).__path__)]
    found = [import_module(name).SECTION for name in names if name != __name__]
    return sorted(found, key=lambda section: section.order)


def titled(outcomes: Outcomes) -> dict[str, Any]:
    """The values of the macro `heading`: a target's name with its units or levels."""
    return {"name": outcomes.target.name, "units": outcomes.units, "levels": outcomes.levels}


def _present(part: object) -> bool:
    return part is not None and not (isinstance(part, Sequence | Mapping) and len(part) == 0)
