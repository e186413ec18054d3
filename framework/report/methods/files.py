"""A methods section as files for authors: Markdown, LaTeX and BibTeX."""

from collections.abc import Sequence

from framework.report import tables
from framework.report.methods import bibliography
from framework.report.methods.text import Part

GUIDELINE = "[@collins2024]"  # TRIPOD+AI, which the page cites


def cited_entries(parts: Sequence[Part]) -> list[bibliography.Entry]:
    """The references of a methods section and of the guideline, in order of first mention."""
    return bibliography.mentioned([*(part.text for part in parts), GUIDELINE])


def methods_files(parts: Sequence[Part]) -> list[tuple[str, str, str]]:
    """Name, media type and text of each file."""
    entries = cited_entries(parts)
    plain = "\n\n".join(f"## {part.title}\n\n{part.text}" for part in parts) + "\n"
    latex = "\n\n".join(
        f"\\paragraph{{{tables.escaped(part.title)}.}} {bibliography.as_latex(part.text, tables.escaped)}"
        for part in parts
    )
    return [
        ("methods.md", "text/markdown", plain),
        ("methods.tex", "text/x-tex", latex + "\n"),
        ("references.bib", "text/x-bibtex", "\n".join(entry.bibtex for entry in entries)),
    ]
