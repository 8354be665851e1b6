"""The configuration groups as files: where they lie and what a help text says of them; reads YAML, composes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lexiseg.errors import ConfigError

_UNTOLD = ("#", "defaults", "  - ")


def conf_dir() -> Path:
    """Where the configuration groups lie: in the installed package, or at the top of a checkout."""
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


def choices(group: str) -> list[str]:
    """Names of a group's files."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def describe_groups(name: str) -> str:
    """The help text's list of groups, their choices, and the keys of ``conf/NAME.yaml``."""
    defaults = read_conf(conf_dir() / f"{name}.yaml")["defaults"]
    groups = sorted(key for entry in defaults if isinstance(entry, dict) for key in entry)
    lines = ["groups (group=choice):"]
    lines += [f"  {group:13s} {', '.join(_choices_of(group, name))}" for group in groups]
    return "\n".join(
        [*lines, "", "keys (key=value), besides those of the chosen groups:", *describe_keys(name)]
    )


def describe_keys(name: str) -> list[str]:
    """The keys of ``conf/NAME.yaml`` with their comments, line by line."""
    text = (conf_dir() / f"{name}.yaml").read_text(encoding="utf-8")
    return [f"  {line}" for line in text.splitlines() if line and not line.startswith(_UNTOLD)]


def describe_tables() -> list[str]:
    """Every table of the ``ablation`` group with its rows, in the tables' order."""
    return [f"  {table.name:8s} {', '.join(_rows(table))}" for table in _tables()]


def _choices_of(group: str, command: str) -> Iterator[str]:
    """What a command may choose of a group: its own folder there if it has one, and never another command's."""
    folder = conf_dir() / group
    own = folder / command
    if own.is_dir():
        yield from (f"{command}/{name}" for name in choices(f"{group}/{command}"))
        return
    yield from choices(group)
    foreign = {path.stem for path in conf_dir().glob("*.yaml")}
    yield from sorted(
        f"{path.name}/…" for path in folder.iterdir() if path.is_dir() and path.name not in foreign
    )


def _tables() -> list[Path]:
    return sorted(path for path in (conf_dir() / "ablation").iterdir() if path.is_dir())


def _rows(table: Path) -> list[str]:
    rows = [read_conf(path)["row"] for path in table.glob("*.yaml")]
    return [row["name"] for row in sorted(rows, key=lambda row: int(row["number"]))]
