"""The configuration files as text: where they lie and what a command may choose; composes nothing.

``conf/COMMAND.yaml`` is a command's root. Groups that belong to it alone lie in ``conf/COMMAND/``, those that commands
share beside the roots. Nothing but a YAML parser is imported, so that help answers at once.
"""

from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import ConfigError


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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML ({' '.join(str(error).split())}); mend that line") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys with values, as in the files of {conf_dir()}")
    return content


def read_root(command: str) -> dict[str, Any]:
    """A command's root; nothing for one file of a group (``group/choice``)."""
    return {} if "/" in command else read_conf(conf_dir() / f"{command}.yaml")


def groups(command: str) -> list[str]:
    """The groups of which a command takes a choice, in the order in which its root lists them."""
    defaults = read_root(command).get("defaults", ())
    return [group for entry in defaults if isinstance(entry, dict) for group in entry]


def own_folder(command: str) -> Path:
    """Where the groups that one command has for itself lie, if it has any."""
    return conf_dir() / command


def choices(command: str, group: str) -> list[str]:
    """What a command may choose in a group."""
    own = own_folder(command) / group
    folder = own if own.is_dir() else conf_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def benchmark_names() -> list[str]:
    """The data sets of ``lexiseg benchmark``."""
    return sorted(path.stem for path in own_folder("benchmark").glob("*.yaml"))
