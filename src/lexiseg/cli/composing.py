"""Hydra configurations without a decorator: composed from the wheel or the checkout, with errors one can act on."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lexiseg.errors import ConfigError
from lexiseg.recipes.conf_files import choices, conf_dir, groups, own_folder, read_root

if TYPE_CHECKING:
    from omegaconf import DictConfig

_UNTOLD = ("full_key", "object_type", "reference_type", "Config search path", "provider=")
"""Lines of Hydra's messages that help nobody at a command line."""


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


def print_config(config: "DictConfig") -> int:
    """What ``--config`` shows; the exit status."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(config))
    return 0


def told(error: Exception) -> str:
    """Hydra's message on one or two lines, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(_UNTOLD)]
    return " ".join(useful).rstrip(".") + "."


def _own_groups(command: str) -> list[str]:
    """Hydra's override that finds the groups of one command, and no other's."""
    own = own_folder(command)
    place = own.as_posix().replace("'", r"\'")
    return [f"hydra.searchpath=['file://{place}']"] if own.is_dir() else []


def _checked_choices(command: str, overrides: Sequence[str]) -> list[str]:
    """Overrides with a choice's ``COMMAND/`` taken off.

    Raises:
        ConfigError: A group or a choice that the command does not have; lists those that it has.
    """
    root, known = read_root(command), groups(command)
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
