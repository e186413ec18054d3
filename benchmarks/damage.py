"""Random faults in files, and the outcome of using them: `refused`, `harmless`, `silent` or `traceback`."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import zarr

from framework.errors import UserError

OUTCOMES = ("refused", "warned", "harmless", "slight", "silent", "traceback")
Rng = np.random.Generator


def flip(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Flip one bit; an empty file gets bytes appended."""
    held = bytearray(file.read_bytes())
    if not held:
        return extend(file, rng, pool)
    held[rng.integers(len(held))] ^= 1 << int(rng.integers(8))
    file.write_bytes(held)


def cut(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Truncate the file."""
    held = file.read_bytes()
    file.write_bytes(held[: int(rng.integers(max(len(held), 1)))])


def delete(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Delete the file."""
    file.unlink()


def delete_folder(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Delete the folder of the file, unless it is the top one."""
    shutil.rmtree(file.parent) if file.parent != pool[0].parent else file.unlink()


def zero(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Replace the content by zeros."""
    file.write_bytes(bytes(file.stat().st_size))


def extend(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Append some bytes."""
    file.write_bytes(file.read_bytes() + rng.bytes(int(rng.integers(1, 17))))


def swap(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Exchange the contents of two files, preferably similar ones."""
    other = _other(file, rng, pool)
    content = file.read_bytes()
    file.write_bytes(other.read_bytes())
    other.write_bytes(content)


def copy(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Replace the content by that of another file."""
    file.write_bytes(_other(file, rng, pool).read_bytes())


def edit(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Change one value of a JSON file to another of its type, or one digit of another text."""
    text = file.read_text()
    if file.suffix in (".json", ".jsonl"):
        lines = [text] if file.suffix == ".json" else text.splitlines()
        number = int(rng.integers(len(lines)))
        tree = json.loads(lines[number])
        _change(tree, rng)
        lines[number] = json.dumps(tree, indent=1 if "\n" in lines[number].strip() else None)
        file.write_text("\n".join(lines) + ("\n" if file.suffix == ".jsonl" else ""))
        return
    digits = [found.start() for found in re.finditer(r"\d", text)]
    if not digits:
        return flip(file, rng, pool)
    at = digits[rng.integers(len(digits))]
    file.write_text(f"{text[:at]}{(int(text[at]) + int(rng.integers(1, 10))) % 10}{text[at + 1 :]}")


def no_number(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Fill an array of an archive with NaN; its checksums are valid."""
    _rewrite(file, rng, lambda array: np.full_like(array, np.nan))


def other_numbers(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Change the numbers of an array of an archive; its checksums are valid."""
    _rewrite(file, rng, lambda array: array * array.dtype.type(1.25) + array.dtype.type(0.25))


def other_element(file: Path, rng: Rng, pool: Sequence[Path]) -> None:
    """Change one element of a zarr array through zarr, so that its checksums are valid."""
    folder = next(place for place in file.parents if (place / "zarr.json").exists())
    array = zarr.open(folder, mode="r+")
    if not isinstance(array, zarr.Array) or 0 in array.shape:
        return delete(file, rng, pool)
    place = tuple(int(rng.integers(size)) for size in array.shape)
    held = np.asarray(array[place])
    array[place] = ~held if held.dtype == bool else np.nan_to_num(held) + held.dtype.type(1)


ANY = (flip, flip, flip, cut, delete, delete_folder, zero, extend, swap, copy)
Kind = Callable[[Path, Rng, Sequence[Path]], None]
Use = Callable[[Path, str, int], tuple[str, object]]
"""A function of a copy, the faulty file's name and the fault's number; returns the kind of use and its result."""


def any_file(files: Sequence[Path], rng: Rng) -> Path:
    """Draw a file uniformly."""
    return files[int(rng.integers(len(files)))]


def kinds(file: Path, store: bool) -> Sequence[Kind]:
    """Return the faults that a file can have, repeated by weight."""
    faults: list[Kind] = list(ANY)
    if file.suffix in (".json", ".jsonl", ".csv", ".yaml"):
        faults += [edit] * 4
    if file.suffix == ".npz":
        faults += [no_number, no_number, other_numbers, other_numbers]
    if store and "c" in file.parts[-8:]:
        faults += [other_element] * 4
    return faults


def trials(
    whole: Path,
    count: int,
    use: Use,
    folder: Path,
    pick: Callable[[Sequence[Path], Rng], Path] = any_file,
    store: bool = False,
) -> dict:
    """Count the outcomes of `count` faults, each in a copy of `whole` that is then used.

    Each outcome is kept in `folder`, so that a stopped benchmark continues.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record, place = folder / "outcomes.jsonl", folder / "copy"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    expected: dict[str, object] = {}
    with record.open("a") as kept:
        for number in range(len(done), count):
            rng = np.random.default_rng([7, number])
            _restore(whole, place)
            files = _files(place)
            file = pick(files, rng)
            possible = kinds(file, store)
            kind = possible[int(rng.integers(len(possible)))]
            before = {one: one.read_bytes() for one in files}
            kind(file, rng, files)
            if all(one.exists() and one.read_bytes() == held for one, held in before.items()):
                flip(file, rng, files)  # equal files were exchanged
            name = file.relative_to(place).as_posix()
            outcome, message = _outcome(whole, place, use, (name, number), expected)
            done.append({"kind": kind.__name__, "file": name, "outcome": outcome, "said": message})
            kept.write(json.dumps(done[-1]) + "\n")
            kept.flush()
    return summary(done)


def summary(rows: Sequence[Mapping]) -> dict:
    """Count outcomes, as a case of the record."""
    counts = Counter(row["outcome"] for row in rows)
    ill = [row for row in rows if row["outcome"] in ("silent", "traceback")]
    return {
        "bits": len(rows),
        **{one: counts[one] for one in OUTCOMES},
        "by_kind": dict(sorted(Counter(row["kind"] for row in rows).items())),
        "ill": ill[:20],
    }


def _outcome(
    whole: Path, place: Path, use: Use, fault: tuple[str, int], expected: dict[str, object]
) -> tuple[str, str]:
    """Return the outcome of a fault, and the message."""
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            kind, found = use(place, *fault)
    except UserError as error:
        return ("traceback" if "\n" in str(error) else "refused"), str(error)[:200]
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"[:300]
    if kind not in expected:
        _restore(whole, place)
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            expected[kind] = use(place, *fault)[1]
    return ("harmless" if same(found, expected[kind]) else "silent"), ""


def same(one: object, other: object) -> bool:
    """Whether two results are equal bit by bit."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    return one == other


def _files(place: Path) -> list[Path]:
    """List all files, those of the top folder first."""
    found = (file for file in place.rglob("*") if file.is_file())
    return sorted(found, key=lambda file: (file.parent != place, file))


def _restore(whole: Path, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(whole, place)


def _other(file: Path, rng: Rng, pool: Sequence[Path]) -> Path:
    others = [one for one in pool if one != file]
    alike = [one for one in others if one.suffix == file.suffix and one.stat().st_size == file.stat().st_size]
    chosen = alike or [one for one in others if one.name == file.name] or others
    return chosen[rng.integers(len(chosen))]


def _change(tree: object, rng: Rng) -> None:
    """Change one leaf of a tree in place."""
    leaves = []

    def walk(node: object) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            if isinstance(value, (dict, list)) and value:
                walk(value)
            else:
                leaves.append((node, key, value))

    walk(tree)
    if not leaves:
        return
    node, key, value = leaves[rng.integers(len(leaves))]
    if isinstance(value, bool):
        node[key] = not value
    elif isinstance(value, (int, float)):
        node[key] = value + 1
    elif isinstance(value, str) and value:
        at = int(rng.integers(len(value)))
        node[key] = f"{value[:at]}{'b' if value[at] == 'a' else 'a'}{value[at + 1 :]}"
    else:
        node[key] = 1


def _rewrite(file: Path, rng: Rng, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with np.load(file) as held:
        arrays = dict(held)
    names = [name for name, array in arrays.items() if array.size and np.issubdtype(array.dtype, np.floating)]
    if not names:
        return flip(file, rng, ())
    name = names[rng.integers(len(names))]
    arrays[name] = change(arrays[name])
    positional = [arrays.pop(f"arr_{i}") for i in range(len(arrays)) if f"arr_{i}" in arrays]
    np.savez(file, *positional, **arrays)
