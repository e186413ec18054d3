"""Methods: a methods section as the run was done, for readers and as files for authors."""

from framework.report.exhibits import selected_hyperparameters
from framework.report.methods import bibliography
from framework.report.methods.files import cited_entries, methods_files
from framework.report.sections.base import Content, Page, Section


def render(page: Page) -> Content:
    """Paragraphs, selected hyperparameters, references and downloads."""
    entries = cited_entries(page.methods)
    chosen = page.run.chosen
    return {
        "parts": [
            (part, [bibliography.as_html(text, entries) for text in part.text.split("\n\n")]) for part in page.methods
        ],
        "selected": selected_hyperparameters.table(chosen) if chosen else None,
        "references": entries,
        "bibtex": "\n".join(entry.bibtex for entry in entries),
        "files": methods_files(page.methods),
    }


SECTION = Section("methods", "Methods", 90, render)
