"""Hydra configurations without a decorator: composed from the wheel or the checkout, with errors one can act on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lexiseg.errors import ConfigError

_UNTOLD = ("full_key", "object_type", "reference_type", "Config search path", "provider=")
"""Lines of Hydra's messages that help nobody at a command line."""


def conf_dir() -> Path:
    """Where the configuration groups lie: in the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


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


def describe_groups(name: str) -> str:
    """The help text's list of groups, their choices, and the keys of ``conf/NAME.yaml``."""
    root = conf_dir()
    lines = ["groups (group=choice):"]
    defaults = plain(OmegaConf.load(root / f"{name}.yaml"))["defaults"]
    for group in sorted(key for entry in defaults if isinstance(entry, dict) for key in entry):
        names = sorted(path.stem for path in (root / group).glob("*.yaml"))
        tables = sorted(f"{path.name}/…" for path in (root / group).iterdir() if path.is_dir())
        lines.append(f"  {group:13s} {', '.join([*names, *tables])}")
    text = (root / f"{name}.yaml").read_text()
    keys = [line for line in text.splitlines() if line and not line.startswith(("#", "defaults", "  - "))]
    return "\n".join(
        [*lines, "", "keys (key=value), besides those of the chosen groups:", *(f"  {k}" for k in keys)]
    )


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
