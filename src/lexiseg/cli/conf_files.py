"""The configuration files as text: where they lie, what a command may choose, what its help says; composes nothing.

``conf/COMMAND.yaml`` is a command's root. Groups that belong to it alone lie in ``conf/COMMAND/``, those that commands
share beside the roots. Nothing but a YAML parser is imported, so that help answers at once.
"""

from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import ConfigError

_UNTOLD = ("#", "defaults", "  - ")


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


def describe_groups(command: str) -> str:
    """The help text's list of groups, their choices, and the keys of the command's root."""
    lines = ["groups (group=choice):"]
    lines += [f"  {group:13s} {', '.join(choices(command, group))}" for group in sorted(groups(command))]
    return "\n".join(
        [*lines, "", "keys (key=value), besides those of the chosen groups:", *describe_keys(command)]
    )


def describe_keys(command: str) -> list[str]:
    """The keys of a command's root with their comments, line by line."""
    text = (conf_dir() / f"{command}.yaml").read_text(encoding="utf-8")
    return [f"  {line}" for line in text.splitlines() if line and not line.startswith(_UNTOLD)]


def table_names() -> list[str]:
    """The tables of ``conf/train/ablation``: a file a table."""
    return choices("train", "ablation")


def read_table(name: str) -> dict[str, dict[str, Any]]:
    """A table's rows by name, in their order: ``label``, ``published`` and ``settings`` of each.

    Raises:
        ConfigError: No such table.
    """
    if name not in table_names():
        raise ConfigError(f"no table '{name}'; choose from {', '.join(table_names())}")
    return read_conf(own_folder("train") / "ablation" / f"{name}.yaml")


def describe_tables() -> list[str]:
    """Every table with its rows."""
    return [f"  {table:8s} {', '.join(read_table(table))}" for table in table_names()]
