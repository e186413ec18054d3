"""The patterns of a `.bidsignore` file, which are those of a `.gitignore`: what they match is set aside."""

import re
from dataclasses import dataclass
from pathlib import Path

from framework.errors import UserError


@dataclass(frozen=True)
class Pattern:
    """One line: `sets_aside` is False where it begins with an exclamation mark and takes something back."""

    text: str
    matches: re.Pattern[str]
    folders_only: bool
    sets_aside: bool


@dataclass(frozen=True)
class Ignored:
    """The patterns that hold below `root`, in the order in which they stand: the last that matches decides."""

    root: Path
    patterns: tuple[Pattern, ...]

    @staticmethod
    def of(root: Path) -> "Ignored":
        """The patterns of the file `.bidsignore` in a folder; none where there is no such file."""
        file = root / ".bidsignore"
        if not file.is_file():
            return Ignored(root, ())
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file} cannot be read ({error}); expected a text file of patterns") from None
        return Ignored(root, tuple(_pattern(line) for line in map(_trimmed, lines) if line and line[0] != "#"))

    def reason(self, path: Path) -> str | None:
        """Why a file or folder below `root` is set aside, or None; with a folder goes all that is in it."""
        if not self.patterns:
            return None
        parts = path.relative_to(self.root).parts
        for length in range(1, len(parts) + 1):
            here = self.root.joinpath(*parts[:length])
            matched = [pattern for pattern in self.patterns if _matches(pattern, here, "/".join(parts[:length]))]
            if matched and matched[-1].sets_aside:
                return f"set aside by .bidsignore ({matched[-1].text})"
        return None


def _matches(pattern: Pattern, path: Path, name: str) -> bool:
    return pattern.matches.fullmatch(name) is not None and (not pattern.folders_only or path.is_dir())


def _trimmed(line: str) -> str:
    """A line without the blanks at its end, unless a backslash keeps one."""
    return re.sub(r"(?<!\\) +$", "", line.rstrip("\r\n\t"))


def _pattern(line: str) -> Pattern:
    taken_back, folders_only = line.startswith("!"), line.endswith("/")
    body = line[taken_back:].rstrip("/") if folders_only else line[taken_back:]
    anchored = "/" in body
    parts = body.removeprefix("/").split("/")
    text = ""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            text += ".*" if last else "(?:.*/)?"
        else:
            text += _glob(part) + ("" if last else "/")
    return Pattern(line, re.compile(text if anchored else f"(?:.*/)?{text}", re.DOTALL), folders_only, not taken_back)


def _glob(part: str) -> str:
    """A part of a pattern between slashes as a regular expression: *, ?, [a-z], [!a], and a backslash before a sign."""
    text, place = "", 0
    while place < len(part):
        sign = part[place]
        close = part.find("]", place + 2) if sign == "[" else -1
        if sign == "\\" and place + 1 < len(part):
            place += 1
            text += re.escape(part[place])
        elif sign == "*":
            text += "[^/]*"
        elif sign == "?":
            text += "[^/]"
        elif close > 0:
            inner = part[place + 1 : close].replace("\\", "\\\\").replace("[", "\\[")
            text += f"[{'^' + inner[1:] if inner[0] in '!^' else inner}]"
            place = close
        else:
            text += re.escape(sign)
        place += 1
    return text
