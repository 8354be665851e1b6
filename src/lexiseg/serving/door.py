"""What every request passes first: the token, the room for it, the count of it."""

import asyncio
import hmac
import time
from collections.abc import Mapping
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lexiseg.serving.limits import Limits
from lexiseg.serving.metrics import ServerMetrics
from lexiseg.serving.refusal import Refusal, come_again

_LINGER_SECONDS = 3.0
"""How long the rest of a refused body is read and dropped: a client that still sends would not hear why."""


class Door:
    """Wraps an application.

    Args:
        app: What stands behind.
        limits: Of requests at once.
        metrics: Counts them.
        token: That a client has to bear; None: anybody may come.
        routes: Known paths; others are counted as one.
        open_routes: Which need no token and always find room.
        unbounded: Which need the token and always find room.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        metrics: ServerMetrics,
        token: str | None,
        routes: tuple[str, ...],
        open_routes: tuple[str, ...],
        unbounded: tuple[str, ...],
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token = None if token is None else f"Bearer {token}".encode()
        self._routes, self._open, self._unbounded = routes, open_routes, unbounded
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the application's own start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, began = scope["path"], time.perf_counter()
        route = path if path in (*self._routes, *self._open, *self._unbounded) else "other"
        visit = _Visit(receive, send, "expect" in Headers(scope=scope))
        bounded = path not in (*self._open, *self._unbounded)
        try:
            refusal = self._refusal(scope, bounded)
            if refusal is None:
                await self._through(scope, visit, bounded)
            else:
                self._metrics.refused.labels(refusal.kind).inc()
                await error_response(refusal)(scope, visit.receive, visit.send)
        finally:  # what failed is answered outside of here
            self._metrics.answered.labels(route, str(visit.status or 500)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def _through(self, scope: Scope, visit: "_Visit", bounded: bool) -> None:
        self._under_way += bounded
        self._metrics.under_way.set(self._under_way)
        try:
            await self._app(scope, visit.receive, visit.send)
        finally:
            self._under_way -= bounded
            self._metrics.under_way.set(self._under_way)

    def _admits(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in self._open:
            return True
        return hmac.compare_digest(dict(scope["headers"]).get(b"authorization", b""), self._token)

    def _refusal(self, scope: Scope, bounded: bool) -> Refusal | None:
        if not self._admits(scope):
            told = "this server asks for a token; send the header 'Authorization: Bearer TOKEN' with the right one"
            return Refusal(401, told, "token", {"WWW-Authenticate": "Bearer"})
        if bounded and self._under_way >= self._limits.requests:
            told = f"{self._under_way} requests are under way, as many as are taken at once; come again later"
            return come_again(told, self._limits.retry_seconds)
        return None


class _Visit:
    """The two ways of a request, watched."""

    def __init__(self, receive: Receive, send: Send, expects: bool) -> None:
        self._receive, self._send = receive, send
        self._over = expects  # such a client sends nothing before it is asked to
        self.status = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._over = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            if self.status >= 400 and self.status != 408:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LINGER_SECONDS):
                        while not self._over:
                            await self.receive()
        await self._send(message)


def error_response(refusal: Refusal) -> JSONResponse:
    """A refusal as a client reads it."""
    headers: Mapping[str, str] = refusal.headers
    return JSONResponse({"error": refusal.sentence}, refusal.status, dict(headers))
