"""A folder of results with a file that lists them, complete at every moment for those that it lists."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from lexiseg.inference.annotated import Annotated
from lexiseg.recipes.photographs import Photograph

_GROWTH = 1.1
"""The file is written anew when so many times more photographs are in it: seldom enough for folders of any size."""


class ResultFolder(Protocol):
    """Where results of photographs go; they are added within :meth:`open`."""

    def open(self) -> AbstractContextManager[None]:
        """Take photographs in here."""
        ...

    def add(self, photograph: Photograph, found: Annotated) -> None:
        """Write what was found in a photograph."""
        ...


class ListedFolder(ABC):
    """Lists only what this run wrote: the file is written empty before the first.

    Within :meth:`open` it lags behind by a tenth of the photographs at most; after it, however it ended, it lists all.
    """

    _written: int = 0

    @property
    @abstractmethod
    def path(self) -> Path:
        """The file."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Photographs that it has to list."""

    @abstractmethod
    def write_list(self) -> None:
        """Write the file, whole or not at all."""

    @contextmanager
    def open(self) -> Iterator[None]:
        """Take photographs in here; at the end the file lists all of them."""
        self.write()
        try:
            yield
        finally:
            if self.count > self._written:
                self.write()

    def write(self) -> None:
        """Write the file now."""
        self.write_list()
        self._written = self.count

    def grow(self) -> None:
        """Another photograph is there; write the file if many came since the last time."""
        if self.count >= _GROWTH * self._written:
            self.write()
