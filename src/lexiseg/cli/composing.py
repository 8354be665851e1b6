"""Hydra configurations without a decorator: composed from the wheel or the checkout, with errors one can act on.

``conf/COMMAND.yaml`` is a command's root. Groups that belong to it alone lie in ``conf/COMMAND/``, those that commands
share beside the roots. Nothing is imported for a help text but a YAML parser.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lexiseg.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_UNTOLD = ("full_key", "object_type", "reference_type", "Config search path", "provider=")
"""Lines of Hydra's messages that help nobody at a command line."""


def conf_dir() -> Path:
    """Where the configuration files lie: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def groups(command: str) -> list[str]:
    """The groups of which a command takes a choice, in the order in which its root lists them."""
    defaults = _root(command).get("defaults", ())
    return [group for entry in defaults if isinstance(entry, dict) for group in entry]


def choices(command: str, group: str) -> list[str]:
    """What a command may choose in a group."""
    own = conf_dir() / command / group
    folder = own if own.is_dir() else conf_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def describe_groups(command: str) -> str:
    """The help text's list of groups, their choices, and the keys of the command's root."""
    lines = ["groups (group=choice):"]
    lines += [f"  {group:13s} {', '.join(choices(command, group))}" for group in sorted(groups(command))]
    return "\n".join(
        [*lines, "", "keys (key=value), besides those of the chosen groups:", describe_keys(command)]
    )


def describe_keys(command: str) -> str:
    """The keys of a command's root, with their comments."""
    text = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", "defaults", "  - "))]
    return "\n".join(f"  {key}" for key in keys)


def compose_config(name: str, overrides: Sequence[str]) -> "DictConfig":
    """Compose a command's root, or one file of a group, with command-line overrides.

    Args:
        name: The command, for ``conf/NAME.yaml``; or ``group/choice``.
        overrides: As typed. The command's own name may stand before a choice (``experiment=pixelclip/toy``).

    Raises:
        ConfigError: An unknown key or choice, or a value that does not parse; says which.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    given = _checked_choices(name, overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose(name, overrides=[*_own_groups(name), *given])
        missing = OmegaConf.missing_keys(config)
        if missing:
            example = sorted(missing)[0]
            raise ConfigError(
                f"{', '.join(sorted(missing))} has no default; give it, for example {example}=…"
            )
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{told(error)} See `lexiseg {name} --help` for groups and keys") from error
    return config


def plain(config: Any) -> Any:
    """Configuration nodes as plain dictionaries, lists and values."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def told(error: Exception) -> str:
    """Hydra's message on one or two lines, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(_UNTOLD)]
    return " ".join(useful).rstrip(".") + "."


def _own_groups(command: str) -> list[str]:
    """Hydra's override that finds the groups of one command, and no other's."""
    own = conf_dir() / command
    place = own.as_posix().replace("'", r"\'")
    return [f"hydra.searchpath=['file://{place}']"] if own.is_dir() else []


def _root(command: str) -> dict[str, Any]:
    """A command's root as it stands in the file; nothing for one file of a group."""
    path = conf_dir() / f"{command}.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if "/" not in command else {}


def _checked_choices(command: str, overrides: Sequence[str]) -> list[str]:
    """Overrides with a choice's ``COMMAND/`` taken off.

    Raises:
        ConfigError: A group or a choice that the command does not have; lists those that it has.
    """
    root, known = _root(command), groups(command)
    checked = []
    for override in overrides:
        group, equals, choice = override.partition("=")
        choice = choice.removeprefix(f"{command}/")
        if root and equals and group.isidentifier() and group not in (*known, *root):
            raise ConfigError(
                f"{override}: `lexiseg {command}` has neither a group nor a key of that name; it has "
                f"{', '.join([*known, *(key for key in root if key not in ('defaults', *known))])}"
            )
        if group not in known or choice in ("", "null"):
            checked.append(override)
            continue
        if choice not in choices(command, group):
            raise ConfigError(
                f"{group}={choice}: `lexiseg {command}` has no such {group}; choose from "
                f"{', '.join(choices(command, group))}"
            )
        checked.append(f"{group}={choice}")
    return checked
