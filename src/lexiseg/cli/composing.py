"""Hydra configurations without a decorator: composed from the wheel or the checkout, with errors one can act on."""

from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lexiseg.cli.conf_files import conf_dir
from lexiseg.errors import ConfigError

_UNTOLD = ("full_key", "object_type", "reference_type", "Config search path", "provider=")
"""Lines of Hydra's messages that help nobody at a command line."""


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose ``conf/NAME.yaml`` with command-line overrides.

    Raises:
        ConfigError: An unknown key or choice, or a value that does not parse; says which.
    """
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            config = compose(name, overrides=list(overrides))
        missing = OmegaConf.missing_keys(config)
        if missing:
            example = sorted(missing)[0]
            raise ConfigError(
                f"{', '.join(sorted(missing))} has no default; give it, for example {example}=…"
            )
        OmegaConf.resolve(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{_told(error)}{_rows_beside(error)} See `lexiseg {name} --help` for groups and keys"
        ) from error
    return config


def plain(config: Any) -> Any:
    """Configuration nodes as plain dictionaries, lists and values."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def _told(error: Exception) -> str:
    """Hydra's message on one or two lines, as a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if not line.startswith(_UNTOLD)]
    return " ".join(useful).rstrip(".") + "."


def _rows_beside(error: Exception) -> str:
    """The choices of the folder that a missing ``group/folder/choice`` was sought in; Hydra lists a group's own only."""
    missing = getattr(error, "missing_cfg_file", None)
    if not missing or str(missing).count("/") < 2:
        return ""
    folder = (conf_dir() / str(missing)).parent
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    return f" {folder.name} has {', '.join(names)}." if names else ""
