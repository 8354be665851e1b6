"""A command line whose refusals are sentences of ours: what is wrong, what was meant, where to read on."""

import argparse
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from lexiseg.errors import ConfigError, did_you_mean

_NUMBER = re.compile(r"-(\d+|\d*\.\d+)")
_CHOICE = re.compile(r"argument (\S+): invalid choice: (.+?) \(choose from (.*)\)")
_VALUE = re.compile(r"argument (\S+): invalid (\w+) value: (.+)")
_KINDS = {"int": "a whole number", "float": "a number"}
_REQUIRED = "the following arguments are required: "
_ONE_OF = re.compile(r"one of the arguments (.+) is required")


class CommandParser(argparse.ArgumentParser):
    """argparse's parser; what it cannot take it refuses by a :class:`~lexiseg.errors.ConfigError` instead of leaving.

    Names are looked at first: a flag that is misspelled would otherwise be told as another that is missing.
    """

    _commands: Mapping[str, Any] | None = None

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Its commands, whose parsers are of this class, too."""
        action = super().add_subparsers(**kwargs)
        self._commands = action.choices
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse names that do not exist and what nothing takes.

        Raises:
            ConfigError: Says what was meant, where that can be guessed.
        """
        given = list(sys.argv[1:] if args is None else args)
        self._require_names(given)
        parsed, left = super().parse_known_args(given, namespace)
        if left:
            self._refuse(f"{left[0]}: `{self.prog}` takes no such argument")
        return parsed, left

    def error(self, message: str) -> NoReturn:
        """What argparse found wrong, as a sentence of ours."""
        if message.startswith(_REQUIRED) and self._commands is not None:
            self._refuse(f"`{self.prog}` needs a command: one of {', '.join(self._commands)}")
        self._refuse(_told(message, self.prog))

    def _require_names(self, given: Sequence[str]) -> None:
        for argument in given:
            if argument == "--":
                return
            if argument.startswith("-") and len(argument) > 1:
                if " " not in argument and not _NUMBER.fullmatch(argument):
                    self._require_flag(argument.partition("=")[0])
            elif self._commands is not None:
                if argument not in self._commands:
                    self._refuse(f"no command '{argument}'{_guess(argument, self._commands)}")
                return  # the rest is that command's

    def _require_flag(self, name: str) -> None:
        flags = self._option_string_actions
        if any(flag.startswith(name) for flag in flags):  # a beginning will do where it is one flag's alone
            return
        self._refuse(f"no flag {name}{did_you_mean(name, flags)}")

    def _refuse(self, sentence: str) -> NoReturn:
        joint = " See" if sentence.endswith("?") else "; see"
        raise ConfigError(f"{sentence}{joint} `{self.prog} --help`")


def _guess(given: str, there: Collection[str]) -> str:
    """What was meant; where nothing comes near, all that there is."""
    return did_you_mean(given, there) or f"; there are {', '.join(there)}"


def _told(message: str, program: str) -> str:
    if message.startswith(_REQUIRED):
        return f"`{program}` needs {message.removeprefix(_REQUIRED)}"
    if found := _ONE_OF.fullmatch(message):
        return f"`{program}` needs one of {', '.join(found[1].split())}"
    if found := _CHOICE.fullmatch(message):
        value, choices = found[2].strip("'\""), [name.strip("'\"") for name in found[3].split(", ")]
        return f"{found[1]} {value}: expected one of {', '.join(choices)}{did_you_mean(value, choices)}"
    if found := _VALUE.fullmatch(message):
        value = found[3].strip("'\"")
        return f"{found[1]} {value}: expected {_KINDS.get(found[2], f'a value of {found[2]}')}"
    if found := re.match(r"argument (\S+): expected (\d+) arguments", message):
        return f"{found[1]}: expected {found[2]} values"
    told = re.sub(r"^argument (\S+): expected .*argument.*", r"\1: expected a value", message)
    return told.removeprefix("argument ").replace("not allowed with argument ", "cannot stand beside ")
