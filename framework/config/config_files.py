"""What the files of a configuration folder may say: all of a study, little of Hydra itself, nothing of trust.

Hydra takes callbacks, logging, environment variables, folders and launchers from any file that it composes, and acts on
them before the command sees a configuration. So a folder's files are read here first, as Hydra would choose them.
"""

import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import GroupDefault, InputDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from framework.errors import UserError

PARAMS = "hydra.sweeper.params"
FOREIGN = ("command-line", "hydra.searchpath")  # how Hydra calls the folders that a command line names
NUMBERS = {  # settings of Hydra's own parts that a file may give, by what they hold
    "sweeper": {"seed", "trials", "batch", "startup", "sigma", "max_batch_size"},
    "launcher": {
        *("jobs", "gigabytes", "workers", "patience", "array_parallelism", "max_num_timeout", "timeout_min", "n_jobs"),
        *("cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node"),
    },
}
WORDS = {
    "sweeper": {"sampler", "objectives", "fidelity"},
    "launcher": {"partition", "account", "qos", "constraint", "gres"},
}
SHIPPED = {"sweeper": {"basic", "optuna"}, "launcher": {"basic", "vmap"}}  # that a file may choose
WORD = re.compile(r"[\w.,:@-]*\Z")
PLACES = ("runs", "run", "sweep", "data.store", "tracking.folder", "tracking.file")  # what a command writes to
LARGEST = 2**22  # bytes of a file
MOST = 100_000  # values of a file, its aliases unfolded
REFERENCE = re.compile(r"\$\{(data\.(name|subjects|seed|voxels)|experiment|seed)\}")


def require_plain(arguments: Sequence[str], config_name: str) -> None:
    """Raise UserError where a file of the user's own folder sets what only the command line may.

    Without such a folder nothing is read.
    """
    told = get_args_parser().parse_known_args(list(arguments))[0]
    for option in ("config_path", "config_name", "experimental_rerun"):
        if getattr(told, option) is not None:
            name = f"--{option.replace('_', '-')}"
            raise UserError(f"{name} is not taken here; put your files in a folder and name it with --config-dir")
    elsewhere = any(word.lstrip("+").startswith("hydra.searchpath") for word in told.overrides)
    if told.config_dir is None and not elsewhere:
        return
    for folder in (told.config_dir, *_search_path(told.overrides)):
        _require_bounded(Path(folder or "."))
    loader = _loader(told.config_dir)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(told.overrides)
    waiting, swept = [*_choices(loader, parsed)], set()
    while waiting:
        for params in _require_plain(loader, config_name, waiting.pop()):
            if params not in swept:
                swept.add(params)
                waiting += _choices(loader, [*parsed, *OverridesParser.create().parse_overrides(list(params))])


def _search_path(words: Sequence[str]) -> Iterator[str]:
    """The folders that a command line adds to Hydra's search path."""
    for override in OverridesParser.create().parse_overrides(list(words)):
        if override.get_key_element() == "hydra.searchpath":
            value = override.value()
            for one in value if isinstance(value, list) else [value]:
                if str(one).startswith("file:") or "://" not in str(one):
                    yield unquote(urlsplit(str(one)).path)


def _require_bounded(folder: Path) -> None:
    """Raise UserError where a YAML file of a folder could not be read in moderate time and memory."""
    for file in sorted(folder.rglob("*.yaml")) if folder.is_dir() else ():
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            continue
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
            raise UserError(
                f"{file} is no regular file of at most {LARGEST} bytes; expected a configuration; remove it"
            )
        content = file.read_bytes()
        if b"*" in content and _unfolded(content) > MOST:
            raise UserError(
                f"{file} unfolds to more than {MOST} values by its aliases (*name); expected a configuration: "
                "write out what it needs, or remove it"
            )


def _unfolded(content: bytes) -> int:
    """How many values YAML holds once its aliases are unfolded, counted without unfolding them; 0 for no YAML."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError):
        return 0  # Hydra says what is wrong, if it reads the file at all
    counted: dict[int, int] = {}

    def count(node: yaml.Node) -> int:
        if id(node) not in counted:
            counted[id(node)] = MOST + 1  # of a node that holds itself
            inner = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
            counted[id(node)] = 1 + sum(map(count, inner)) if isinstance(node, yaml.CollectionNode) else 1
        return counted[id(node)]

    return count(root) if root is not None else 0


def _loader(folder: str | None) -> ConfigLoaderImpl:
    """A loader of Hydra's that looks where the command will look."""
    path = create_config_search_path("pkg://conf")
    if folder is not None:
        place = Path(folder).absolute()
        if place.is_dir():
            path.prepend("command-line", f"file://{place}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def _choices(loader: ConfigLoaderImpl, overrides: Sequence[Override]) -> Iterator[list[str]]:
    """The overrides that choose files, for each file that a sweep would choose."""
    groups = [one for one in overrides if _chooses(loader, one)]
    path = [_line(one) for one in overrides if one.get_key_element() == "hydra.searchpath"]
    plain = [_line(one) for one in groups if not one.is_sweep_override()]
    yield [*path, *plain]
    for one in groups:
        if one.is_sweep_override():
            key = _line(one).partition("=")[0]
            for value in one.sweep_string_iterator():
                yield [*path, *plain, f"{key}={value}"]


def _line(override: Override) -> str:
    return override.input_line or ""


def _chooses(loader: ConfigLoaderImpl, override: Override) -> bool:
    return loader.repository.group_exists(override.key_or_group)


def _require_plain(loader: ConfigLoaderImpl, config_name: str, words: Sequence[str]) -> list[tuple[str, ...]]:
    """Check the files of one composition; the parameters of sweeps that they bring, as overrides."""
    parsed, repo = loader._parse_overrides_and_create_caching_repo(config_name, list(words))
    chosen = create_defaults_list(repo, config_name, parsed, prepend_hydra=True, skip_missing=True)
    params = []
    for default in chosen.defaults:
        found = repo.load_config(default.config_path) if default.config_path is not None else None
        if found is None or not found.provider.startswith(FOREIGN):
            continue
        place = f"{found.path.removeprefix('file://')}/{default.config_path}.yaml"
        for one in found.defaults_list or []:
            _require_plain_default(one, place)
        package = _absolute(default.package)
        for key, value in _leaves(OmegaConf.to_container(found.config, resolve=False), package):
            _require_plain_value(key, value, place)
            if key == PARAMS:
                params.append(tuple(f"{name}={one}" for name, one in (value or {}).items()))
    return params


def _absolute(package: str | None) -> str:
    return (package or "").removeprefix("_global_").strip(".")


def _leaves(node: object, path: str) -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key, lists and the parameters of a sweep whole."""
    if not isinstance(node, dict) or path == PARAMS:
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _require_plain_default(default: InputDefault, place: str) -> None:
    """Raise UserError where a file has Hydra load what is not for a file to choose."""
    group = default.group if isinstance(default, GroupDefault) else getattr(default, "path", None)
    group, package = (group or "").lstrip("/"), _absolute(default.package)
    if "$" in group or "$" in package or package.split(".")[0] in ("hydra", "trust"):
        raise _refused(f"defaults: {group}@{package}", place)
    _, _, part = group.partition("hydra/")
    if not group.startswith("hydra/"):
        return
    if not isinstance(default, GroupDefault) or default.value not in SHIPPED.get(part, ()):
        raise _refused(f"defaults: /{group}", place, f"{group}=...")


def _require_plain_value(key: str, value: object, place: str) -> None:
    """Raise UserError where a file sets what is not for a file to set."""
    parts = key.split(".")
    if parts[0] == "trust":
        raise UserError(f"{place} sets trust; only your own command line can, if you trust it: 'trust=[mypackage]'")
    if key in PLACES:
        _require_inside(key, value, place)
    if value is not None and any(
        one.startswith(f"{key}.") for one in PLACES
    ):  # a reference to what is checked elsewhere
        raise _refused(f"{key} as a whole", place)
    if parts[0] != "hydra":
        return
    kind, name = ([*parts[1:], "", ""])[:2]
    if key == "hydra.mode" and value in ("RUN", "MULTIRUN"):
        return
    if key == PARAMS and (value is None or isinstance(value, dict)):
        for one in value or {}:
            _require_study(str(one), place)
        return
    if key == "hydra.sweeper.repeat" and isinstance(value, list):
        for one in value:
            _require_study(str(one), place)
        return
    words = value if isinstance(value, list) else [value]
    plain = all(one is None or isinstance(one, (int, float)) for one in words)
    texts = all(isinstance(one, str) and WORD.match(one) for one in words)
    if name in NUMBERS.get(kind, ()) and plain:
        return
    if name in WORDS.get(kind, ()) and (plain or texts):
        return
    raise _refused(key, place, f"{key}=...")


def _require_study(override: str, place: str) -> None:
    """Raise UserError where a sweep that a file brings would set what the file itself may not."""
    key = re.split(r"[=@:]", override.strip().lstrip("+~").strip())[0]
    if re.split(r"[./]", key)[0] in ("hydra", "trust") or key in PLACES:
        raise _refused(f"{PARAMS}: {key}", place)


def _require_inside(key: str, value: object, place: str) -> None:
    """Raise UserError where a file names a place to write to that is not under the folder one starts in."""
    if value is None or value == "???":
        return
    text = REFERENCE.sub("x", value) if isinstance(value, str) else "/"
    if "$" in text or "://" in text or "::" in text or text.startswith(("/", "~")) or ".." in Path(text).parts:
        raise UserError(
            f"{place} sets {key} to {value!r}, which may lie anywhere; a file names places under the folder that you "
            f"start in alone: give it on your own command line, {key}=..."
        )


def _refused(key: str, place: str, fix: str = "") -> UserError:
    more = f"; if you want it, say so on your own command line: {fix}" if fix else ""
    return UserError(f"{place} sets {key}, which no file of a configuration folder may: remove it{more}")
