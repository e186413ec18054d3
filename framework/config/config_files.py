"""Checks of the files of a configuration folder, which may set all of a study, little of Hydra itself, no trust.

Hydra takes callbacks, logging, environment variables, folders and launchers from any file that it composes, and acts on
them before the command sees a configuration. So a folder's files are read here first, as Hydra would choose them.
"""

import re
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

from framework.config.old_keys import replaced
from framework.errors import UserError
from framework.files import size_of

SWEEP_PARAMS = "hydra.sweeper.params"
USER_PROVIDERS = ("command-line", "hydra.searchpath")  # Hydra's names for folders that the command line gives
NUMBER_KEYS = {  # keys of Hydra's own parts that a file may set to numbers
    "sweeper": {"seed", "trials", "batch", "startup", "sigma", "max_batch_size"},
    "launcher": {
        *(
            "jobs",
            "max_memory_gb",
            "workers",
            "patience",
            "array_parallelism",
            "max_num_timeout",
            "timeout_min",
            "n_jobs",
        ),
        *("cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node"),
    },
}
WORD_KEYS = {
    "sweeper": {"sampler", "objectives", "fidelity"},
    "launcher": {"partition", "account", "qos", "constraint", "gres"},
}
PERMITTED_PARTS = {"sweeper": {"basic", "optuna"}, "launcher": {"basic", "vmap"}}  # that a file may choose
PLAIN_WORD = re.compile(r"[\w.,:@-]*\Z")
OUTPUT_KEYS = (
    "runs",
    "run",
    "sweep",
    "data.store",
    "tracking.folder",
    "tracking.file",
)  # keys of the places that a command writes to
MAX_BYTES = 2**22  # of a file
MAX_VALUES = 100_000  # of a file, its aliases expanded
REFERENCE = re.compile(r"\$\{(data\.(name|subjects|seed|voxels)|experiment|seed)\}")


def check_config_files(arguments: Sequence[str], config_name: str) -> None:
    """Raise UserError where a file of the user's own folder sets what only the command line may.

    Without such a folder nothing is read.
    """
    parsed_arguments = get_args_parser().parse_known_args(list(arguments))[0]
    for option in ("config_path", "config_name", "experimental_rerun"):
        if getattr(parsed_arguments, option) is not None:
            name = f"--{option.replace('_', '-')}"
            raise UserError(
                f"got {name}, which is not supported; put your files in a folder and name it with --config-dir"
            )
    overrides, config_dir = parsed_arguments.overrides, parsed_arguments.config_dir
    if config_dir is None and not any(word.lstrip("+").startswith("hydra.searchpath") for word in overrides):
        return
    for folder in (config_dir, *_added_folders(overrides)):
        _check_sizes(Path(folder or "."))
    loader = build_loader(config_dir)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
    pending, checked = [*_file_choices(loader, parsed)], set()
    while pending:
        for params in _check_composition(loader, config_name, pending.pop()):
            if params not in checked:
                checked.add(params)
                pending += _file_choices(loader, [*parsed, *OverridesParser.create().parse_overrides(list(params))])


def _added_folders(words: Sequence[str]) -> Iterator[str]:
    """Yield the folders that a command line adds to Hydra's search path."""
    for override in OverridesParser.create().parse_overrides(list(words)):
        if override.get_key_element() == "hydra.searchpath":
            value = override.value()
            for folder in value if isinstance(value, list) else [value]:
                if str(folder).startswith("file:") or "://" not in str(folder):
                    yield unquote(urlsplit(str(folder)).path)


def _check_sizes(folder: Path) -> None:
    """Raise UserError where a YAML file of a folder could not be read in moderate time and memory."""
    for file in sorted(folder.rglob("*.yaml")) if folder.is_dir() else ():
        if file.is_dir():
            continue
        try:
            large = size_of(file) > MAX_BYTES
        except UserError as error:
            raise UserError(f"{file} is not a configuration: {error}; remove it") from None
        if large:
            raise UserError(f"{file} has more than {MAX_BYTES} bytes; expected a configuration: remove it")
        content = file.read_bytes()
        if b"*" in content and _count_values(content) > MAX_VALUES:
            raise UserError(
                f"{file} expands to more than {MAX_VALUES} values by its aliases (*name); expected a configuration: "
                "write its values out, or remove it"
            )


def _count_values(content: bytes) -> int:
    """Return the number of values of a YAML text with its aliases expanded, without expanding them; 0 if not YAML."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError):
        return 0  # Hydra reports the error, if it reads the file at all
    counted: dict[int, int] = {}

    def count(node: yaml.Node) -> int:
        if id(node) not in counted:
            counted[id(node)] = MAX_VALUES + 1  # of a node that holds itself
            children = (
                [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else node.value
            )
            counted[id(node)] = 1 + sum(map(count, children)) if isinstance(node, yaml.CollectionNode) else 1
        return counted[id(node)]

    return count(root) if root is not None else 0


def build_loader(folder: str | None) -> ConfigLoaderImpl:
    """Return Hydra's loader with the search path of the command."""
    path = create_config_search_path("pkg://conf")
    if folder is not None:
        place = Path(folder).absolute()
        if place.is_dir():
            path.prepend("command-line", f"file://{place}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


def _file_choices(loader: ConfigLoaderImpl, overrides: Sequence[Override]) -> Iterator[list[str]]:
    """Yield the overrides that choose files, for each file that a sweep would choose."""
    groups = [override for override in overrides if _is_group(loader, override)]
    path = [_override_text(override) for override in overrides if override.get_key_element() == "hydra.searchpath"]
    plain = [_override_text(override) for override in groups if not override.is_sweep_override()]
    yield [*path, *plain]
    for override in groups:
        if override.is_sweep_override():
            key = _override_text(override).partition("=")[0]
            for value in override.sweep_string_iterator():
                yield [*path, *plain, f"{key}={value}"]


def _override_text(override: Override) -> str:
    return override.input_line or ""


def _is_group(loader: ConfigLoaderImpl, override: Override) -> bool:
    return loader.repository.group_exists(override.key_or_group)


def _check_composition(loader: ConfigLoaderImpl, config_name: str, words: Sequence[str]) -> list[tuple[str, ...]]:
    """Check the files of one composition; return their sweep parameters as overrides."""
    parsed, repo = loader._parse_overrides_and_create_caching_repo(config_name, list(words))
    chosen = create_defaults_list(repo, config_name, parsed, prepend_hydra=True, skip_missing=True)
    params = []
    for default in chosen.defaults:
        result = repo.load_config(default.config_path) if default.config_path is not None else None
        if result is None or not result.provider.startswith(USER_PROVIDERS):
            continue
        place = f"{result.path.removeprefix('file://')}/{default.config_path}.yaml"
        for entry in result.defaults_list or []:
            _check_default(entry, place)
        package = _absolute_package(default.package)
        for key, value in _leaves(OmegaConf.to_container(result.config, resolve=False), package):
            _check_value(key, value, place)
            if key == SWEEP_PARAMS:
                params.append(tuple(f"{name}={values}" for name, values in (value or {}).items()))
    return params


def _absolute_package(package: str | None) -> str:
    return (package or "").removeprefix("_global_").strip(".")


def _leaves(node: object, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every value with its dotted key; lists and the parameters of a sweep are not taken apart."""
    if not isinstance(node, dict) or path == SWEEP_PARAMS:
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))


def _check_default(default: InputDefault, place: str) -> None:
    """Raise UserError where a file has Hydra load a part that no file may choose."""
    group = default.group if isinstance(default, GroupDefault) else getattr(default, "path", None)
    group, package = (group or "").lstrip("/"), _absolute_package(default.package)
    if "$" in group or "$" in package or package.split(".")[0] in ("hydra", "trust"):
        raise _refusal(f"defaults: {group}@{package}", place)
    _, _, part = group.partition("hydra/")
    if not group.startswith("hydra/"):
        return
    if not isinstance(default, GroupDefault) or default.value not in PERMITTED_PARTS.get(part, ()):
        raise _refusal(f"defaults: /{group}", place, f"{group}=...")


def _check_value(key: str, value: object, place: str) -> None:
    """Raise UserError where a file sets a key that no file may set."""
    parts = key.split(".")
    if parts[0] == "trust":
        raise UserError(f"{place} sets trust; only your own command line can, if you trust it: 'trust=[mypackage]'")
    if key in OUTPUT_KEYS:
        _check_output_path(key, value, place)
    if value is not None and any(output.startswith(f"{key}.") for output in OUTPUT_KEYS):  # a reference to a mapping
        raise _refusal(f"{key} as a whole", place)
    if parts[0] != "hydra":
        return
    kind, name = ([*parts[1:], "", ""])[:2]
    if key == "hydra.mode" and value in ("RUN", "MULTIRUN"):
        return
    if key == SWEEP_PARAMS and (value is None or isinstance(value, dict)):
        for override in value or {}:
            _check_sweep_key(str(override), place)
        return
    if key == "hydra.sweeper.repeat" and isinstance(value, list):
        for override in value:
            _check_sweep_key(str(override), place)
        return
    words = value if isinstance(value, list) else [value]
    are_numbers = all(word is None or isinstance(word, (int, float)) for word in words)
    are_words = all(isinstance(word, str) and PLAIN_WORD.match(word) for word in words)
    if name in NUMBER_KEYS.get(kind, ()) and are_numbers:
        return
    if name in WORD_KEYS.get(kind, ()) and (are_numbers or are_words):
        return
    if (message := replaced(key)) is not None:
        raise UserError(f"{place}: {message}")
    raise _refusal(key, place, f"{key}=...")


def _check_sweep_key(override: str, place: str) -> None:
    """Raise UserError where the sweep of a file would set a key that the file itself may not."""
    key = re.split(r"[=@:]", override.strip().lstrip("+~").strip())[0]
    if re.split(r"[./]", key)[0] in ("hydra", "trust") or key in OUTPUT_KEYS:
        raise _refusal(f"{SWEEP_PARAMS}: {key}", place)


def _check_output_path(key: str, value: object, place: str) -> None:
    """Raise UserError where a file names a place to write to outside the current folder."""
    if value is None or value == "???":
        return
    text = REFERENCE.sub("x", value) if isinstance(value, str) else "/"
    if "$" in text or "://" in text or "::" in text or text.startswith(("/", "~")) or ".." in Path(text).parts:
        raise UserError(
            f"{place} sets {key} to {value!r}, which may lie anywhere; a file names only places under the current "
            f"folder: give it on your own command line, {key}=..."
        )


def _refusal(key: str, place: str, fix: str = "") -> UserError:
    alternative = f", or set it on your own command line: {fix}" if fix else ""
    return UserError(f"{place} sets {key}, which no file of a configuration folder may: remove it{alternative}")
