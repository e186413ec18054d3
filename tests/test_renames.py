"""The table of old and new names: no old name is left, and every new one is there."""

import ast
from pathlib import Path

import pytest

from framework.config.old_keys import OLD_KEYS, OLD_VALUES

ROOT = Path(__file__).parents[1]
TABLE = [tuple(line.split("\t")) for line in (ROOT / "docs" / "renames.tsv").read_text().splitlines()[1:] if line]
KEY = "key "  # begins the rows of configuration keys and values
ROWS = [row for row in TABLE if not row[0].startswith(KEY)]
AREAS = ("framework", ".", "framework/plugins")


def names_of(file: Path) -> dict[str, set[str]]:
    """The names that a module defines or imports, each with those of its class body."""
    found: dict[str, set[str]] = {}
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ClassDef):
            inner = [part for part in ast.walk(node) if part is not node]
            members = {part.name for part in inner if isinstance(part, ast.FunctionDef)}
            members |= {part.id for part in inner if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
            members |= {
                part.attr for part in inner if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
            }
            found[node.name] = members
        elif isinstance(node, ast.FunctionDef):
            found[node.name] = {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: set() for target in targets if isinstance(target, ast.Name)}
    return found


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or a name within one; an empty package is neither."""
    for area in AREAS:
        place, parts = ROOT / area, name.split(".")
        for count in range(len(parts), 0, -1):
            module = place.joinpath(*parts[:count])
            file = module.with_suffix(".py") if module.with_suffix(".py").is_file() else module / "__init__.py"
            if not file.is_file():
                continue
            rest, names = parts[count:], names_of(file)
            if not rest:
                return file.name != "__init__.py" or bool(names)
            if rest[0] in names and (len(rest) == 1 or rest[1] in names[rest[0]]):
                return True
            break
    return False


def test_the_table_has_two_columns_and_no_row_twice():
    assert all(len(row) == 2 for row in TABLE)
    assert len({row[0] for row in TABLE}) == len(TABLE)


def test_keys_and_values_are_those_that_the_command_line_answers():
    answered = {KEY + old: KEY + new for old, new in OLD_KEYS.items()}
    for key, values in OLD_VALUES.items():
        answered |= {f"{KEY}{key}={old}": f"{KEY}{key}={new}" for old, new in values.items()}
    assert {row[0]: row[1] for row in TABLE if row[0].startswith(KEY)} == answered


@pytest.mark.parametrize("old", [row[0] for row in ROWS])
def test_an_old_name_is_gone(old):
    assert not resolves(old)


def test_what_resolves_is_found():
    assert resolves("runs.execute")
    assert resolves("types.Number")
    assert resolves("types.Number.bounds")
    assert not resolves("types.Nothing")
    assert not resolves("launch.run")


@pytest.mark.parametrize("new", sorted({row[1] for row in ROWS}))
def test_a_new_name_is_there(new):
    assert resolves(new) or (ROOT / "framework" / new.replace(".", "/")).is_dir()
