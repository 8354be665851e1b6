"""A request's body: bounded in bytes and time, and taken apart in memory."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lexiseg.serving.limits import Limits
from lexiseg.serving.refusal import Refusal

_FIELD_BYTES = 2**18
"""Of a part that is no file: the words."""


@dataclass(frozen=True)
class Form:
    """The parts of a body.

    Attributes:
        texts: Value by name.
        image: Content of the part ``image``; None where there was none.
    """

    texts: Mapping[str, str]
    image: bytes | None


async def read_form(request: Request, limits: Limits, names: tuple[str, ...]) -> Form:
    """Read a multipart body whole, then take it apart; a file never touches a disk under the name that the client gave it.

    Args:
        request: Whose body nobody has read yet.
        limits: Of bytes and seconds.
        names: Parts that are understood; ``image`` among them has to be a file, all others text.

    Raises:
        Refusal: Another kind of body, too large, too slow, cut short, or with other parts.
    """
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        told = kind.partition(";")[0][:60] or "none"
        raise Refusal(
            415, f"expected a body of type multipart/form-data, got {told}; with curl use -F", "type"
        )
    content = await _content(request, limits)
    return await _taken_apart(request.headers, content, names)


async def _content(request: Request, limits: Limits) -> bytes:
    too_large = Refusal(
        413, f"the body has more than the {limits.bytes} bytes that are read; shrink the image", "bytes"
    )
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.upload_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        raise Refusal(
            408, f"the body did not arrive within {limits.upload_seconds:g} seconds; send it faster", "slow"
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "the body ended before its declared length; send it whole", "cut") from None
    return b"".join(chunks)


async def _taken_apart(headers: Headers, content: bytes, names: tuple[str, ...]) -> Form:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield content

    if content and not content.rstrip().endswith(b"--"):  # the parser would drop the last part without a word
        raise Refusal(400, "the multipart body has no end; send it whole", "form")
    parser = MultiPartParser(
        headers, stream(), max_files=2, max_fields=len(names) + 1, max_part_size=_FIELD_BYTES
    )
    parser.spool_max_size = len(content) + 1  # it is in memory already
    try:
        parts = await parser.parse()
    except MultiPartException as error:
        raise Refusal(
            400, f"the multipart body cannot be read ({error.message.rstrip('.')}); send it anew", "form"
        ) from None
    try:
        return await _form(parts, names)
    finally:
        await parts.close()


async def _form(parts: FormData, names: tuple[str, ...]) -> Form:
    texts: dict[str, str] = {}
    image = None
    for name, value in parts.multi_items():
        if name not in names:
            raise Refusal(422, f"no part '{name[:40]}' is known here; there are {', '.join(names)}", "form")
        if name in texts or (name == "image" and image is not None):
            raise Refusal(422, f"the part '{name}' came twice; send it once", "form")
        if (name == "image") != isinstance(value, UploadFile):
            raise Refusal(422, _WRONG_PART[name == "image"].format(name), "form")
        if isinstance(value, UploadFile):
            image = await value.read()
        else:
            texts[name] = value
    return Form(texts, image)


_WRONG_PART = (
    "the part '{}' came as a file, expected text; send its value",
    "the part '{}' came as text, expected a file's content; a path or an address is never opened here",
)
