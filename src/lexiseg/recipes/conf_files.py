"""The configuration files as text: where they lie and what a command may choose; composes nothing.

``conf/COMMAND.yaml`` is a command's root. Groups that belong to it alone lie in ``conf/COMMAND/``, those that commands
share beside the roots. Nothing but a YAML parser is imported, so that help answers at once.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import ConfigError, did_you_mean
from lexiseg.storage import leads_somewhere

TARGET = "_target_"
"""In a record: the class that the values beside it are built into."""

_TARGETS = re.compile(rf"{TARGET}: *([\w.]+)")

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Plain values only; in C where PyYAML was built with it, which reads seven times as fast."""

_PACKAGE = "lexiseg"
_OWN_CLIP = "file"
"""The file of ``conf/clip`` that waits for a source."""


def conf_dir() -> Path:
    """Where the configuration files lie: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def read_conf(path: Path) -> dict[str, Any]:
    """One file, its interpolations as they stand there.

    Raises:
        ConfigError: It is no mapping of keys.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML ({' '.join(str(error).split())}); mend that line") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys with values, as in the files of {conf_dir()}")
    return content


def own_class(target: object) -> str | None:
    """Where the class lies that a record names, if our own files of ``conf`` name it; None for every other.

    A record may come from anyone, and building is calling: nothing else is ever imported by a record's word. Where a class lay
    in an earlier version, its name alone finds it.

    Args:
        target: What stands under :data:`TARGET`.
    """
    package, _, _ = str(target).partition(".")
    return _own_classes(conf_dir()).get(str(target).rpartition(".")[2]) if package == _PACKAGE else None


@cache
def _own_classes(folder: Path) -> Mapping[str, str]:
    """Place by name; comments that offer another class count as well."""
    texts = (path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml"))
    return {place.rpartition(".")[2]: place for text in texts for place in _TARGETS.findall(text)}


def read_root(command: str) -> dict[str, Any]:
    """A command's root; nothing for one file of a group (``group/choice``)."""
    return {} if "/" in command else read_conf(conf_dir() / f"{command}.yaml")


def groups(command: str) -> list[str]:
    """The groups of which a command takes a choice, in the order in which its root lists them, each led to its own below it."""
    defaults = read_root(command).get("defaults", ())
    listed = [group for entry in defaults if isinstance(entry, dict) for group in entry]
    return [
        name for group in listed for name in (group, *(f"{group}/{part}" for part in _below(command, group)))
    ]


def _below(command: str, group: str) -> list[str]:
    """The groups of parts of a group's choices (``model/proposer``): folders in the command's own folder of it."""
    own = own_folder(command) / group
    return sorted(path.name for path in own.iterdir() if path.is_dir()) if own.is_dir() else []


def own_folder(command: str) -> Path:
    """Where the groups that one command has for itself lie, if it has any."""
    return conf_dir() / command


def choices(command: str, group: str) -> list[str]:
    """What a command may choose in a group."""
    own = own_folder(command) / group
    folder = own if own.is_dir() else conf_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def models_below(command: str, model: str) -> list[str]:
    """A model, led by those whose files its own stands on (``defaults``), the lowest first; itself alone without a file."""
    if model not in choices(command, "model"):
        return [model]
    below = _model_file(command, model).get("defaults", ())
    return [*(name for base in below if _is_model(base) for name in models_below(command, base)), model]


def _is_model(base: Any) -> bool:
    """Whether an entry of ``defaults`` is a model's file, and not the file itself or a choice of one of its parts."""
    return isinstance(base, str) and base != "_self_"


def parts_of(command: str, model: Mapping[str, Any]) -> list[str]:
    """The parts that a model is composed of, ``proposer/NAME``, as ``models`` and ``with_model`` call them."""
    chosen = ((group, model.get(group)) for group in _below(command, "model"))
    return [f"{group}/{part.get('name')}" for group, part in chosen if isinstance(part, Mapping)]


def kept_with(command: str, model: Mapping[str, Any]) -> list[str]:
    """Under which names something may be kept that goes with a model: of models below it, its own, and of its parts."""
    return [*models_below(command, model["name"]), *parts_of(command, model)]


def _require_whole(command: str, overrides: Sequence[str], group: str) -> None:
    """Refuse a part (``model/proposer``) of what is chosen to be something else.

    Raises:
        ConfigError: Says which choice has such a part.
    """
    whole, _, part = group.partition("/")
    told = [choice for name, _, choice in (each.partition("=") for each in overrides) if name == whole]
    holders = [
        name
        for name in choices(command, whole)
        if any(
            isinstance(entry, dict) and part in entry
            for entry in _model_file(command, name).get("defaults", ())
        )
    ]
    if not told or told[-1].removeprefix(f"{command}/") not in holders:
        raise ConfigError(
            f"{group} goes with {whole}={' or '.join(holders)}; choose that too, or leave it out"
        )


def settings_for_model(
    command: str, model: Mapping[str, Any], given: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What an experiment sets of the model that was chosen: ``given`` for it, or for one whose file its own stands on.

    Args:
        command: Whose models they are.
        model: The model's settings, as composed without it.
        given: Settings by model, or by part (``proposer/NAME``); those of what was not chosen reach nobody.

    Returns:
        Settings, without those that somebody has set otherwise than the model's file does; of a part as ``proposer.KEY``.

    Raises:
        ConfigError: ``given`` names a model that there is not.
    """
    names, known = models_below(command, model["name"]), choices(command, "model")
    groups_below = _below(command, "model")
    parts = [f"{group}/{name}" for group in groups_below for name in choices(command, f"model/{group}")]
    unknown = sorted(given.keys() - known - set(parts) - {model["name"]})
    if unknown:
        raise ConfigError(f"models: no model {', '.join(unknown)}; there are {', '.join(known)}")
    filed = {
        key: value for name in names if name in known for key, value in _model_file(command, name).items()
    }
    settings = {key: value for name in names for key, value in given.get(name, {}).items()}
    wanted = {key: value for key, value in settings.items() if model.get(key) == filed.get(key)}
    for part in parts_of(command, model):
        if part in given and part in parts:
            group, _, _ = part.partition("/")
            own = _model_file(command, part)
            wanted |= {
                f"{group}.{key}": value
                for key, value in given[part].items()
                if model[group].get(key) == own.get(key)
            }
    return wanted


def _model_file(command: str, model: str) -> dict[str, Any]:
    return read_conf(own_folder(command) / "model" / f"{model}.yaml")


def benchmark_names() -> list[str]:
    """The data sets of ``lexiseg benchmark``."""
    return sorted(path.stem for path in own_folder("benchmark").glob("*.yaml"))


def checked_choices(command: str, overrides: Sequence[str]) -> list[str]:
    """Overrides, as one types them, with a choice's ``COMMAND/`` taken off and ``clip=PATH`` spelled out.

    ``clip=PATH`` is as every other command takes it: a weight file, a folder or a hub name that no file of ``conf/clip`` has.

    Raises:
        ConfigError: A group or a choice that the command does not have; lists those that it has.
    """
    root, known = read_root(command), groups(command)
    checked = []
    for override in overrides:
        group, equals, choice = override.partition("=")
        choice = choice.removeprefix(f"{command}/")
        if root and equals and group.isidentifier() and group not in (*known, *root):
            there = [*known, *(key for key in root if key not in ("defaults", *known))]
            raise ConfigError(
                f"{override}: `lexiseg {command}` has neither a group nor a key of that name; it has "
                f"{', '.join(there)}{did_you_mean(group, there)}"
            )
        if group not in known or choice in ("", "null"):
            checked.append(override)
            continue
        if group == "clip" and _is_place(choice) and choice not in choices(command, group):
            quoted = choice.strip("'\"").replace("'", r"\'")
            checked += [f"clip={_OWN_CLIP}", f"clip.source='{quoted}'"]
            continue
        if "/" in group:
            _require_whole(command, overrides, group)
        if choice not in choices(command, group):
            there = choices(command, group)
            raise ConfigError(
                f"{group}={choice}: `lexiseg {command}` has no such {group}; choose from {', '.join(there)}"
                f"{', or give a path or a hub name' if group == 'clip' else ''}{did_you_mean(choice, there)}"
            )
        checked.append(f"{group}={choice}")
    return checked


def _is_place(choice: str) -> bool:
    """Whether it can only be meant as a path or a hub name."""
    return "/" in choice or leads_somewhere(choice)


def require_benchmarks(names: str | Sequence[str]) -> list[str]:
    """Names of benchmarks; one alone may be a text.

    Raises:
        ConfigError: None, or one that there is not.
    """
    if not isinstance(names, str | list | tuple):
        raise ConfigError(f"benchmarks: expected names of benchmarks, got {names!r}")
    names, available = [names] if isinstance(names, str) else list(names), benchmark_names()
    unknown = [name for name in names if name not in available]
    if unknown or not names:
        name = str(unknown[0]) if unknown else ""
        raise ConfigError(
            f"no benchmark '{name}'; choose from {', '.join(available)}{did_you_mean(name, available)}"
        )
    return names
