"""The references of a page: BibTeX for authors, plain words for readers, numbers in order of their first mention."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from markupsafe import Markup, escape

MENTION = re.compile(r"\[(@[\w-]+(?:; @[\w-]+)*)\]")
ACCENTS = {'"': "\u0308", "'": "\u0301", "`": "\u0300", "^": "\u0302", "~": "\u0303"}
WHERE = ("journal", "booktitle", "publisher", "institution", "howpublished")


@dataclass(frozen=True)
class Entry:
    """One reference: its kind (article, ...), key and fields as BibTeX has them."""

    kind: str
    key: str
    fields: Mapping[str, str]

    @property
    def bibtex(self) -> str:
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in self.fields.items())
        return f"@{self.kind}{{{self.key},\n{lines}\n}}\n"

    @property
    def plain(self) -> str:
        """Authors (year). Title. Where, volume(number), pages."""
        plain = {name: unbraced(value) for name, value in self.fields.items()}
        place = next((plain[name] for name in WHERE if name in plain), "")
        volume = plain.get("volume", "") + (f"({plain['number']})" if "number" in plain else "")
        where = ", ".join(part for part in (f"{place} {volume}".strip(), plain.get("pages", "")) if part)
        return f"{_authors(plain['author'])} ({plain['year']}). {plain['title']}. {where}."


@cache
def library() -> Mapping[str, Entry]:
    """All references by key."""
    text = files("framework.report.methods").joinpath("references.bib").read_text(encoding="utf-8")
    entries = [_entry(one) for one in re.split(r"^(?=@)", text, flags=re.MULTILINE) if one.strip()]
    return {entry.key: entry for entry in entries}


def mentioned(texts: Iterable[str]) -> list[Entry]:
    """The references that texts mention as [@key; @key], in order of first mention."""
    keys = [key[1:] for text in texts for some in MENTION.findall(text) for key in some.split("; ")]
    return [library()[key] for key in dict.fromkeys(keys)]


def as_html(text: str, entries: list[Entry]) -> Markup:
    """A text with its mentions as numbers that lead to the list of references."""
    place = {entry.key: i for i, entry in enumerate(entries, 1)}

    def numbers(match: re.Match) -> str:
        keys = [key[1:] for key in match[1].split("; ")]
        return "[" + ", ".join(f'<a href="#ref-{key}">{place[key]}</a>' for key in keys) + "]"

    return Markup(MENTION.sub(numbers, str(escape(text))))


def as_latex(text: str, escaped) -> str:
    r"""A text with its mentions as \cite; `escaped` makes words safe."""
    parts = MENTION.split(text)  # words and mentions by turns
    return "".join(
        r"\cite{" + ",".join(key[1:] for key in part.split("; ")) + "}" if i % 2 else escaped(part)
        for i, part in enumerate(parts)
    )


def unbraced(text: str) -> str:
    """BibTeX's braces, accents and dashes as the signs they stand for."""
    text = re.sub(r"\{\\(.)(\w)\}", lambda m: _accented(m[1], m[2]), text).replace(r"{\L}", "Ł")
    return text.replace("{", "").replace("}", "").replace("--", "–")


def _accented(accent: str, letter: str) -> str:
    return unicodedata.normalize("NFC", letter + ACCENTS[accent])


def _authors(names: str) -> str:
    """Families with initials; the first alone and "et al." where there are more than six, or the entry says so."""
    people = names.split(" and ")
    more = people[-1] == "others"
    named = [_initials(name) for name in people if name != "others"]
    if len(named) > 6 or more:
        return f"{named[0]} et al."
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} & {named[-1]}"


def _initials(name: str) -> str:
    family, _, given = name.partition(", ")
    return f"{family} {''.join(part[0] for part in re.split(r'[ -]', given) if part)}"


def _entry(text: str) -> Entry:
    head = re.match(r"@(\w+)\{([\w-]+),", text)
    if head is None:
        raise ValueError(f"no reference: {text[:60]!r}")
    fields = re.findall(r"(\w+) = \{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}", text[head.end() :])
    return Entry(head[1], head[2], dict(fields))
