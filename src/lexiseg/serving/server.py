"""The process: a socket, the application on it, and an end that finishes what began."""

import logging
import socket
import warnings
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from PIL import Image

from lexiseg.errors import ConfigError
from lexiseg.serving.limits import Limits


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that nobody can reach yet, so that a taken port shows before a model is loaded.

    Args:
        host: A name or an address; of both families.
        port: 0 for any that is free.

    Raises:
        ConfigError: No such address here, or a port that is taken or forbidden.
    """
    made = None
    try:
        if not 0 <= port < 2**16:
            raise ValueError("a port is a number from 0 to 65535")
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, ValueError) as error:
        if made is not None:
            made.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen at {host}:{port} ({reason}); choose another --host or --port"
        ) from error
    return made


def serve(app: FastAPI, at: socket.socket, limits: Limits, started: Callable[[str], None]) -> None:
    """Answer until SIGTERM or Ctrl-C; then requests that began are answered and no other is taken.

    Args:
        app: Of :func:`~lexiseg.serving.app.create_app`.
        at: Of :func:`bound_socket`.
        limits: Say how long the end may take.
        started: Hears the address once clients are heard.
    """
    logging.getLogger("python_multipart").setLevel(
        logging.ERROR
    )  # what is wrong with a body its client is told
    warnings.simplefilter(
        "ignore", Image.DecompressionBombWarning
    )  # pixels are counted before they are decoded
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(limits.upload_seconds + limits.seconds) + 1,
    )
    _Server(config, started).run(sockets=[at])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, told: Callable[[str], None]) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._told(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
