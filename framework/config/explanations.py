"""Explanations of keys and files, read from the comments of YAML configurations.

A key is explained by the comment at the end of its line, or else by the lines of comment above it; a file by the
comment at its beginning. A mapping without comments inside is explained as a whole.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

HIDDEN = ("_target_", "_partial_", "_convert_", "defaults", "hydra")
REFERENCE = re.compile(r"""["']?\$\{([\w.]+)\}["']?\Z""")


@dataclass(frozen=True)
class Explanation:
    """Value of a key as its file spells it, and the explanation; empty where the file has none."""

    value: str
    text: str


def describe_file(text: str) -> str:
    """Return the comment at the beginning of a file, without the directive of its package."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)


def summarize_file(text: str) -> str:
    """Return the first sentence of the comment at the beginning of a file."""
    lines = []
    for line in describe_file(text).splitlines():
        if not line.startswith((" ", "python -m ")):
            lines.append(line)
        elif lines:
            break
    return re.split(r"[.;](?:\s|\Z)", " ".join(lines))[0].rstrip(":")


def explain_keys(text: str) -> dict[str, Explanation]:
    """Return the explanation of every key of a file, by dotted key."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return dict(_walk(root, "", text, _comments(text))) if isinstance(root, yaml.MappingNode) else {}


def _comments(text: str) -> Mapping[int, tuple[int | None, str]]:
    """Return the comment of each line that has one, with its column where it stands alone."""
    ends: dict[int, int] = {}
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if token.end_mark.index > token.start_mark.index:
            ends[token.end_mark.line] = max(ends.get(token.end_mark.line, 0), token.end_mark.column)
    comments = {}
    for number, line in enumerate(text.splitlines()):
        rest = line[ends.get(number, 0) :].lstrip(" ,")
        if rest.startswith("#"):
            comments[number] = (None if number in ends else line.index("#"), rest.lstrip("#").strip())
    return comments


def _walk(
    node: yaml.MappingNode, prefix: str, text: str, comments: Mapping[int, tuple[int | None, str]]
) -> Iterator[tuple[str, Explanation]]:
    for key, value in node.value:
        if key.value in HIDDEN:
            continue
        name, explanation = f"{prefix}{key.value}", _explanation(key, value, comments)
        if isinstance(value, yaml.MappingNode) and value.value and not (value.flow_style and explanation):
            inner = list(_walk(value, f"{name}.", text, comments))
            if not explanation or any(_is_commented(entry) for _, entry in inner):
                yield from inner
                continue
        yield name, Explanation(_source(value, text), explanation)


def _is_commented(entry: Explanation) -> bool:
    return bool(entry.text) and not entry.text.startswith("the value of ")


def _explanation(key: yaml.Node, value: yaml.Node, comments: Mapping[int, tuple[int | None, str]]) -> str:
    is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    line, column = key.start_mark.line, key.start_mark.column
    own = comments.get(line if is_block else value.end_mark.line)
    if own is not None and own[0] is None:
        return own[1]
    above = []
    while line - 1 in comments and comments[line - 1][0] == column:
        line -= 1
        above.insert(0, comments[line][1])
    if above and line > 0:  # the comment at the beginning is the file's
        return " ".join(above)
    reference = REFERENCE.match(value.value) if isinstance(value, yaml.ScalarNode) else None
    return f"the value of {reference[1]}" if reference else ""


def _source(value: yaml.Node, text: str) -> str:
    """Return a value as it is written, in one line."""
    if isinstance(value, yaml.MappingNode) and not value.flow_style:
        return f"{{{', '.join(f'{key.value}: ...' for key, _ in value.value)}}}"
    lines = text[value.start_mark.index : value.end_mark.index].splitlines()
    return " ".join(line.split(" #")[0].strip() if len(lines) > 1 else line.strip() for line in lines)
