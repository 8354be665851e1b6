"""The application: routes, their OpenAPI page, and what becomes of errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from lexiseg import __version__
from lexiseg.errors import ConfigError, LexisegError
from lexiseg.inference.pipeline import Pipeline
from lexiseg.serving import openapi
from lexiseg.serving.body import Form, read_form
from lexiseg.serving.door import Door, error_response
from lexiseg.serving.limits import Limits
from lexiseg.serving.metrics import ServerMetrics
from lexiseg.serving.options import OPTION_NAMES, Output, read_options
from lexiseg.serving.refusal import Refusal
from lexiseg.serving.service import Service

_ROUTES = ("/segment", "/encode", "/segment_encoded")
_OPEN = ("/health", "/docs", "/openapi.json")
_ASKED = ("/metrics",)


def create_app(pipeline: Pipeline, limits: Limits | None = None, token: str | None = None) -> FastAPI:
    """A server's application around a model in hand.

    Args:
        pipeline: Its one model; the answers are those of its segmenters.
        limits: What may be asked of it.
        token: That clients have to bear; None: anybody may come. ``/health`` and the page stay open.

    Raises:
        ConfigError: A model that reads inside masks.
    """
    limits, metrics = limits or Limits(), ServerMetrics()
    service = Service(pipeline, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    app = FastAPI(
        title="lexiseg",
        description=openapi.ABOUT,
        version=__version__,
        lifespan=lifespan,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        dependencies=[Depends(HTTPBearer(auto_error=False))] if token else [],
    )
    _add_answers(app, service, limits)
    _add_state(app, service, metrics)
    _add_errors(app, metrics)
    app.add_middleware(
        Door,
        limits=limits,
        metrics=metrics,
        token=token,
        routes=_ROUTES,
        open_routes=_OPEN,
        unbounded=_ASKED,
    )
    return app


def _add_answers(app: FastAPI, service: Service, limits: Limits) -> None:
    @app.post("/segment", summary="Name every pixel of a photograph", **openapi.SEGMENT)
    async def segment(request: Request) -> Response:
        form = await read_form(request, limits, ("image", *OPTION_NAMES))
        rules, output = read_options(form.texts, limits)
        return _answer(await service.segment(_image(form), rules, output), output)

    @app.post("/encode", summary="Read a photograph once, for any words", **openapi.ENCODE)
    async def encode(request: Request) -> Response:
        form = await read_form(request, limits, ("image",))
        return JSONResponse(await service.encode(_image(form)))

    @app.post(
        "/segment_encoded", summary="Name every pixel of an encoded photograph", **openapi.SEGMENT_ENCODED
    )
    async def segment_encoded(request: Request) -> Response:
        form = await read_form(request, limits, ("encoding", *OPTION_NAMES))
        rules, output = read_options(form.texts, limits)
        if "encoding" not in form.texts:
            raise ConfigError("encoding: expected the name that /encode gave, and there was none; send it")
        return _answer(await service.segment_encoded(form.texts["encoding"], rules, output), output)


def _add_state(app: FastAPI, service: Service, metrics: ServerMetrics) -> None:
    @app.get("/health", summary="Whether the server is there")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "version": __version__, "waiting": len(service.batcher)}

    @app.get("/metrics", summary="Counts and times, as Prometheus reads them", response_class=Response)
    async def counts() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI, metrics: ServerMetrics) -> None:
    def told(refusal: Refusal) -> JSONResponse:
        metrics.refused.labels(refusal.kind).inc()
        return error_response(refusal)

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return told(error)

    @app.exception_handler(LexisegError)
    async def mistaken(_: Request, error: LexisegError) -> JSONResponse:
        return told(Refusal(422, str(error), "request"))

    @app.exception_handler(HTTPException)
    async def astray(request: Request, error: HTTPException) -> JSONResponse:
        where = f"{request.method} {request.url.path[:60]}"
        sentence = f"{where}: nothing answers to that here; /docs shows what does"
        return told(Refusal(error.status_code, sentence, "route", error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return told(Refusal(500, "the server failed at this; its log says how", "failure"))


def _image(form: Form) -> bytes:
    if form.image is None:
        raise ConfigError("image: expected a file's content, and there was no such part; send one")
    return form.image


def _answer(content: bytes, output: Output) -> Response:
    return Response(content, media_type="application/json" if output == "json" else "image/png")
