"""Help of a command: its groups with their options, and a line for every key, from the comments of `conf/`."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import get_args_parser
from hydra.core.default_element import GroupDefault, ResultDefault

from framework.config.config_files import build_loader
from framework.config.explanations import Explanation, describe_file, explain_keys, summarize_file

WIDTH = 40  # of keys with their values
OPTIONS = {
    "-m, --multirun": "run a sweep over key=value,value; hydra/launcher=vmap trains its jobs together",
    "--config-dir FOLDER": "a folder of your own configurations, laid out as conf/",
    "--quiet": "show warnings and errors alone",
    "--verbose": "show every evaluation, and what is read and written",
    "--cfg job": "print the composed configuration",
    "--hydra-help": "show the options of Hydra itself",
}


def help_text(config_name: str, arguments: Sequence[str]) -> str:
    """Return the help of a command with the groups that its arguments choose."""
    parsed = get_args_parser().parse_known_args(list(arguments))[0]
    loader = build_loader(parsed.config_dir)
    overrides, repo = loader._parse_overrides_and_create_caching_repo(config_name, parsed.overrides)
    groups = [override for override in overrides if loader.repository.group_exists(override.key_or_group)]
    chosen = create_defaults_list(repo, config_name, groups, prepend_hydra=True, skip_missing=True).defaults
    own = [default for default in chosen if default.config_path and not default.config_path.startswith("hydra/")]
    sections = (
        f"usage: prognax {config_name.replace('_', '-')} [option ...] [group=name ...] [key=value ...]",
        describe_file(_read(repo, config_name)),
        _table("Options", OPTIONS),
        *_group_tables(loader, repo, config_name, own),
        _table("Keys, with their values", _keys(repo, own)),
    )
    return "\n\n".join(filter(None, sections))


def _table(title: str, rows: dict[str, str]) -> str:
    """Return a line a row; nothing without rows."""
    lines = [f"{title}:", *(f"  {name:{WIDTH}}  {text}".rstrip() for name, text in rows.items())]
    return "\n".join(lines) if rows else ""


def _keys(repo: IConfigRepository, chosen: Sequence[ResultDefault]) -> dict[str, str]:
    """Return the explanation of every key with its value; a later file replaces the value of an earlier one."""
    keys: dict[str, Explanation] = {}
    for default in chosen:
        package = (default.package or "").removeprefix("_global_").strip(".")
        for key, entry in explain_keys(_read(repo, str(default.config_path))).items():
            name = f"{package}.{key}".strip(".")
            keys[name] = Explanation(entry.value, entry.text or _inherited(name, keys))
    parents = {name.rpartition(".")[0] for name in keys}
    return {_cut(f"{name}={entry.value}"): entry.text for name, entry in keys.items() if name not in parents}


def _inherited(name: str, keys: Mapping[str, Explanation]) -> str:
    """Return the explanation of a key in an earlier file, or else of the mapping that it is in."""
    while name and not (name in keys and keys[name].text):
        name = name.rpartition(".")[0]
    return keys[name].text if name else ""


def _cut(text: str) -> str:
    key, _, value = text.partition("=")
    room = max(WIDTH - len(key) - 1, 12)
    return f"{key}={value if len(value) <= room else f'{value[: room - 3]}...'}"


def _group_tables(
    loader: ConfigLoaderImpl, repo: IConfigRepository, config_name: str, chosen: Sequence[ResultDefault]
) -> list[str]:
    """Return a table of options for every group of the command, and for the groups within it."""
    offered = {"experiment"}
    for default in chosen:
        result = repo.load_config(str(default.config_path))
        for entry in (result.defaults_list or []) if result else []:
            if isinstance(entry, GroupDefault) and entry.group and "@" not in str(default.config_path):
                parent = "" if entry.group.startswith("/") else str(default.config_path).rpartition("/")[0]
                offered.add(f"{parent}/{entry.group}".strip("/").replace("//", "/"))
    current = {str(default.config_path).rpartition("/")[0]: default.config_path for default in chosen}
    tables = []
    for group in _groups(loader, ""):
        if not any(group == name or group.startswith(f"{name}/") for name in offered):
            continue
        texts = {name: _read(repo, f"{group}/{name}") for name in loader.get_group_options(group)}
        if group == "experiment":  # whole studies, each of one command
            texts = {name: text for name, text in texts.items() if f"experiments.{config_name} " in text}
        name = str(current.get(group, "")).rpartition("/")[2]
        title = f"+{group}=..." if group == "experiment" else f"{group}={name or '...'}"
        tables.append(_table(title, {option: summarize_file(text) for option, text in texts.items()}))
    return tables


def _groups(loader: ConfigLoaderImpl, parent: str) -> list[str]:
    """Return all groups under one, each before the groups within it."""
    found = [f"{parent}/{name}".strip("/") for name in loader.list_groups(parent)]
    return [group for name in found if name != "hydra" for group in (name, *_groups(loader, name))]


def _read(repo: IConfigRepository, path: str) -> str:
    """Return the text of a configuration; none for one that is no file."""
    result = repo.load_config(path)
    scheme, _, place = (result.path if result else "").partition("://")
    if scheme == "pkg":
        return files(place).joinpath(f"{path}.yaml").read_text(encoding="utf-8")
    return Path(place, f"{path}.yaml").read_text(encoding="utf-8") if scheme == "file" else ""
