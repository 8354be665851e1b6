"""A web application listening in a thread of its own, so that signals stay with the command."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import Any

from lexiseg.errors import ConfigError

_GRACE_SECONDS = 1
"""What is under way may end within this; a browser keeps a connection open for ever."""

_LAST_PORT = 2**16 - 1
_STEP_SECONDS = 0.02
_STARTING_SECONDS = 120.0


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at an address; 0 is any port that is free.

    Raises:
        ConfigError: There is no such port or address, or somebody else listens there.
    """
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"--port is {port}; expected a number from 0 (any that is free) to {_LAST_PORT}")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        door = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot(host, port, error) from error
    with closing(door):
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(place)
            door.listen()
        except OSError as error:
            raise _cannot(host, port, error) from error
        yield door


@contextmanager
def running(application: Any, door: socket.socket) -> Iterator[str]:
    """Serve an ASGI application behind a socket that listens, while the block runs.

    Yields:
        Its address.

    Raises:
        ConfigError: It does not start.
    """
    uvicorn = import_module("uvicorn")
    settings = uvicorn.Config(
        application, log_config=None, log_level="warning", timeout_graceful_shutdown=_GRACE_SECONDS
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + _STARTING_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise ConfigError("the page does not start; see what is said above")
            time.sleep(_STEP_SECONDS)
        host, port = door.getsockname()[:2]
        yield f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    finally:
        server.should_exit = True
        thread.join(_GRACE_SECONDS + 5)


def _cannot(host: str, port: int, error: Exception) -> ConfigError:
    told = getattr(error, "strerror", None) or error
    return ConfigError(f"cannot listen at {host}:{port} ({told}); give another --host or --port")
