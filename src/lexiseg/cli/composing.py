"""Hydra configurations without a decorator: composed from the wheel or the checkout, with errors one can act on."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import ConfigError
from lexiseg.recipes.conf_errors import lacking_key, tell_near_key, told_of_hydra
from lexiseg.recipes.conf_files import (
    checked_choices,
    conf_dir,
    groups,
    kept_with,
    own_folder,
    settings_for_model,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

_MODELS, _WITH_MODEL = "models", "with_model"


def compose_config(name: str, overrides: Sequence[str]) -> "DictConfig":
    """Compose a command's root, or one file of a group, with command-line overrides.

    What an experiment sets of single models, ``models: {NAME: {…}}``, stands as overrides before those that were typed; so
    does what goes with a model, ``with_model: {NAME: {…}}``.

    Args:
        name: The command, for ``conf/NAME.yaml``; or ``group/choice``.
        overrides: As typed. The command's own name may stand before a choice (``experiment=pixelclip/toy``).

    Raises:
        ConfigError: An unknown key or choice, or a value that does not parse; says which.
    """
    from hydra import compose
    from omegaconf import OmegaConf, open_dict

    given, of_groups = checked_choices(name, overrides), frozenset(groups(name))
    chosen = [override for override in given if override.partition("=")[0] in of_groups]
    with hydra_at_work(f"`lexiseg {name} --help` for groups and keys", name, chosen):
        config = _composed(name, (*_own_groups(name), *_told_of_model(given, chosen)), conf_dir())
        own = _of_its_model(name, config, given)
        chosen[:0] = [override for override in own if override.partition("=")[0] in of_groups]
        config = compose(name, overrides=[*_own_groups(name), *own, *given])
        with open_dict(config):
            for key in (_MODELS, _WITH_MODEL):
                config.pop(key, None)
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"{', '.join(missing)} has no default; give it, for example {missing[0]}=…")
        OmegaConf.resolve(config)
    return config


def read_value(text: str) -> Any:
    """What a value would mean in a configuration.

    Raises:
        ValueError: Nothing; says why.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return plain(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)["value"]
    except (YAMLError, OmegaConfBaseException) as error:
        raise ValueError(str(error).splitlines()[0]) from error


def plain(config: Any, *, resolve: bool = True) -> Any:
    """Configuration nodes as plain dictionaries, lists and values."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(config, resolve=resolve) if OmegaConf.is_config(config) else config


def print_config(config: "DictConfig") -> int:
    """What ``--config`` shows; the exit status."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(config))
    return 0


@contextmanager
def hydra_at_work(see: str, name: str | None = None, chosen: Sequence[str] = ()) -> Iterator[Any]:
    """Hydra at the configuration files, its errors as sentences that end in what to see.

    Args:
        see: Stands at the end.
        name: What is composed; a key that it lacks is told with those that it has, for these ``chosen`` files.
        chosen: Overrides that choose files.

    Raises:
        ConfigError: What Hydra or OmegaConf found wrong.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import ConfigCompositionException, HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            try:
                yield GlobalHydra.instance().hydra
            except ConfigCompositionException as error:
                if name is None or not (lacked := lacking_key(str(error))):
                    raise
                there = compose(name, overrides=[*_own_groups(name), *chosen])
                raise ConfigError(
                    f"{tell_near_key(lacked, plain(there, resolve=False))}. See {see}"
                ) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"{told_of_hydra(str(error))}. See {see}") from error


def _told_of_model(given: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Of what was typed, the files and the model's settings: other keys may be of files that only go with the model."""
    return [override for override in given if override in chosen or override.startswith("model.")]


@lru_cache(maxsize=64)
def _composed(name: str, overrides: tuple[str, ...], folder: Path) -> "DictConfig":
    """The files of ``folder`` composed, to be read only; kept, for a sweep asks for the same choice in every row."""
    from hydra import compose

    return compose(name, overrides=list(overrides))


def _of_its_model(command: str, config: "DictConfig", given: Sequence[str]) -> list[str]:
    """What is set of the model that was chosen, and what goes with it, as one would type it."""
    if not {_MODELS, _WITH_MODEL} & config.keys():
        return []
    model = plain(config.model)
    if not isinstance(model["name"], str):
        return []  # whoever reads the settings refuses it
    typed = {override.lstrip("+~").partition("=")[0] for override in given}
    told = plain(config.get(_WITH_MODEL, {}))
    names = kept_with(command, model)
    along = {key: value for name in names for key, value in told.get(name, {}).items()}
    for group in (
        typed & set(groups(command)) & along.keys()
    ):  # another file was chosen: its values are not these
        along = {key: value for key, value in along.items() if not key.startswith(group)}
    settings = settings_for_model(command, model, plain(config.get(_MODELS, {})))
    return [
        *(f"{key}={_typed(value)}" for key, value in along.items() if key.lstrip("+") not in typed),
        *(f"model.{key}={json.dumps(value)}" for key, value in settings.items()),
    ]


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _own_groups(command: str) -> list[str]:
    """Hydra's override that finds the groups of one command, and no other's."""
    own = own_folder(command)
    place = own.as_posix().replace("'", r"\'")
    return [f"hydra.searchpath=['file://{place}']"] if own.is_dir() else []
