"""File names of BIDS: what their entities say, which of several files is meant, and which names are nearly right."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from framework.errors import UserError

LABEL = "[A-Za-z0-9+]+"  # since BIDS 1.11 with plus signs
NAME = re.compile(rf"((?:[a-zA-Z]+-{LABEL}_)+)([A-Za-z0-9]+)(\.nii(?:\.gz)?)")
ENDING, RUN = "ending", "run"


@dataclass(frozen=True)
class Name:
    """A name taken apart; `entities` are all but subject and session, in the order in which they stand."""

    text: str
    subject: str
    session: str | None
    entities: Mapping[str, str]
    suffix: str
    ending: str

    def value(self, key: str) -> str | None:
        """An entity's value, or None where the name has none; an index without its leading zeros."""
        found = self.ending if key == ENDING else self.entities.get(key)
        return found.lstrip("0") or "0" if found is not None and found.isdigit() else found


def parse(text: str) -> Name | None:
    """The name of a NIfTI file, or None where it is none that BIDS knows."""
    found = NAME.fullmatch(text)
    if found is None:
        return None
    pairs = [part.split("-") for part in found[1].rstrip("_").split("_")]
    entities = dict(pairs)
    if len(entities) < len(pairs) or pairs[0][0] != "sub":
        return None
    subject, session = entities.pop("sub"), entities.pop("ses", None)
    return Name(text, f"sub-{subject}", None if session is None else f"ses-{session}", entities, found[2], found[3])


def resembles(text: str, modality: str) -> bool:
    """Whether a file is named nearly as one of this modality: in other letters, or with something behind the suffix."""
    name, wanted = parse(text), modality.lower()
    if name is None:
        return wanted in text.lower()
    suffix = name.suffix.lower()
    return name.suffix != modality and (suffix.startswith(wanted) or suffix == wanted.removesuffix("w"))


def wanted(entities: Mapping, modality: str) -> dict[str, str | None]:
    """Entities that names of a modality's files must have: entries of all modalities, and those under its name."""
    both = {key: value for key, value in entities.items() if not isinstance(value, Mapping)}
    both |= entities.get(modality, {})
    return {str(key): None if value is None else str(value).lstrip("0") or "0" for key, value in both.items()}


def unwanted(name: Name, wanted: Mapping[str, str | None]) -> str | None:
    """Why a file is left out, or None: an entity that is not as it must be."""
    for key, value in wanted.items():
        if name.value(key) != value:
            return f"its {key} is {name.value(key) or 'not named'}; entities ask for {value or 'none'}"
    return None


def first(names: Sequence[Name], modality: str, run: str | None, where: str) -> list[Name]:
    """Several files of one modality in order of their runs. Raises UserError where more than the run tells them apart,
    or where the configuration does not say that the first run is meant.
    """
    keys = [*dict.fromkeys(key for name in names for key in name.entities), ENDING]
    differ = [key for key in keys if len({name.value(key) for name in names}) > 1]
    listed = f"{where} has {len(names)} files of {modality}: {[name.text for name in names]}"
    if any(key != RUN for key in differ):
        key = next(key for key in differ if key != RUN)
        values = ", ".join(sorted({name.value(key) or "none" for name in names}))
        choice = (
            "keep one"
            if key == ENDING
            else f"say which: +data.reader.entities.{key}=<one of them> (null: files without it), or keep one"
        )
        raise UserError(f"{listed}, which differ in {key} ({values}); {choice}")
    if not differ:
        raise UserError(f"{listed}, which are the same run twice; keep one")
    if run is None:
        raise UserError(f"{listed}; keep one, or add data.reader.run=first")
    return sorted(names, key=lambda name: _number(name, where))


def _number(name: Name, where: str) -> int:
    """A run as a number; a file that names none comes first."""
    run = name.value(RUN)
    if run is not None and not run.isdigit():
        raise UserError(f"{where}: the run of {name.text} is not a number; rename it")
    return 0 if run is None else int(run)


def differences(chosen: Sequence[Name]) -> dict[str, list[str]]:
    """The entities but for the run in which the files of one subject's visits differ, with their values."""
    keys = dict.fromkeys(key for name in chosen for key in name.entities if key != RUN)
    values = {key: [name.value(key) or "none" for name in chosen] for key in keys}
    return {key: found for key, found in values.items() if len(set(found)) > 1}
