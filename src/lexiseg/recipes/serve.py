"""A pipeline on a socket, until somebody stops it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from lexiseg.dense.wants import wants_masks
from lexiseg.errors import ConfigError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.regions import masks_unserved
from lexiseg.interruption import Kept, keeping
from lexiseg.lazy import locate
from lexiseg.progress import say_no_more
from lexiseg.serving.limits import Limits
from lexiseg.storage import tell_unreadable

_PACKAGES = {
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "python_multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}
_LEAST_TOKEN = 16


@dataclass(frozen=True)
class Serving:
    """Where and for whom a server is there.

    Attributes:
        host: Address to listen at.
        port: 0 for any that is free.
        token_file: Holds the token that clients have to bear; None: anybody may come.
        limits: What they may ask.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    limits: Limits = field(default_factory=Limits)

    def run(self, load: Callable[[], Pipeline], told: Callable[[str], None]) -> None:
        """Listen, load, answer; returns when a signal has come and what began is answered.

        Args:
            load: Makes the pipeline, once everything else is known to be right.
            told: Hears in a sentence that clients are heard.

        Raises:
            ConfigError: A missing package, no such address, an unfit token, or a model that cannot be served.
        """
        require_packages()
        token = None if self.token_file is None else read_token(self.token_file)
        at = locate("lexiseg.serving.server:bound_socket")(self.host, self.port)
        with at:
            app = locate("lexiseg.serving.app:create_app")(load(), self.limits, token)
            who = "whoever reaches this address may ask" if token is None else "clients bear the token"

            def started(address: str) -> None:
                say_no_more()
                told(f"serving at {address} ({address}/docs tells how to ask); {who}; Ctrl-C ends it")

            with keeping(lambda: Kept("every request that had begun is answered")):
                locate("lexiseg.serving.server:serve")(app, at, self.limits, started)


def require_unmasked(method: str | None) -> None:
    """Refuse a method that reads inside masks, before anything is loaded for it.

    Raises:
        ConfigError: It does.
    """
    if method is not None and wants_masks(method):
        raise masks_unserved(method)


def require_packages() -> None:
    """Check for what only a server needs.

    Raises:
        ConfigError: Names what is not installed, and how to install it.
    """
    absent = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if absent:
        raise ConfigError(
            f"lexiseg serve needs {', '.join(absent)}, not installed here; run `pip install 'lexiseg[serve]'`"
        )


def read_token(path: Path) -> str:
    """The token in a file, without the white space around it.

    Raises:
        ConfigError: It cannot be read, or holds no token that a header can carry and nobody guesses.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--token-file {tell_unreadable(path, error)}; expected a token of ASCII characters"
        ) from error
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise ConfigError(
            f"--token-file {path}: expected one token of at least {_LEAST_TOKEN} ASCII characters, got {len(token)}; "
            "`openssl rand -hex 32` makes one"
        )
    return token
