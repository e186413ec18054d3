"""A methods section as files for authors: Markdown, LaTeX and BibTeX."""

from collections.abc import Sequence

from framework.report import tables
from framework.report.methods import bibliography
from framework.report.methods.text import Part

GUIDELINE = "[@collins2024]"  # TRIPOD+AI, which the page cites


def methods_files(parts: Sequence[Part]) -> list[tuple[str, str, str]]:
    """Name, media type and text of each file."""
    entries = bibliography.mentioned([*(part.text for part in parts), GUIDELINE])
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
