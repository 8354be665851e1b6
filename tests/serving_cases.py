"""A server on loopback in this process, and requests to it written by hand where a client's library would not send them."""

import http.client
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BOUNDARY = "between7"
TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
WORDS = "bricks, sand; red circle, water, grass"

Part = tuple[str, str | bytes, str | None]
"""Name, content, and the file name of a part that is a file."""


def photograph(height: int = 29, width: int = 37, seed: int = 0, kind: str = "PNG") -> bytes:
    """An image file of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def multipart(*parts: Part) -> bytes:
    """A form's body."""
    body = b""
    for name, content, file in parts:
        told = f'; filename="{file}"' if file is not None else ""
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{told}\r\n\r\n'.encode()
        body += content if isinstance(content, bytes) else content.encode()
        body += b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def form(image: bytes | None = None, **texts: str) -> bytes:
    """A body with an image and options."""
    files = [] if image is None else [("image", image, "photo.png")]
    return multipart(*files, *((name, value, None) for name, value in texts.items()))


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass(frozen=True)
class Client:
    """Asks a server at a port of this machine."""

    port: int
    token: str | None = None

    def ask(
        self, path: str, body: bytes | None = None, *, method: str | None = None, **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        given |= {} if body is None else TYPE
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, body, given)
            answer = connection.getresponse()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )
        finally:
            connection.close()

    def raw(self, *pieces: bytes, pause: float = 0.0, end: bool = False) -> Answer:
        """Send bytes as they are; ``end`` closes the sending half."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as there:
            for piece in pieces:
                there.sendall(piece)
                time.sleep(pause)
            if end:
                there.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(there)
            answer.begin()
            return Answer(
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read(),
            )


@contextmanager
def served(app: Any, token: str | None = None) -> Iterator[Client]:
    """The application behind a real server on a free port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="error", port=0, timeout_graceful_shutdown=10))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    try:
        yield Client(server.servers[0].sockets[0].getsockname()[1], token)
    finally:
        server.should_exit = True
        thread.join()


def head(path: str, length: int | None, **headers: str) -> bytes:
    """A request's head as a client writes it."""
    given = {"Host": "here", **TYPE} | ({} if length is None else {"Content-Length": str(length)}) | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode()


def png_bomb(width: int, height: int) -> bytes:
    """A small file that claims to be large, and unpacks to it."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = zlib.compress(bytes(min((width + 1) * height, 2**25)), 9)
    start = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BadRequest = tuple[str, Callable[[Client], Answer]]
"""What is wrong with it, and how it is sent."""


def bad_requests(limit_bytes: int) -> list[BadRequest]:
    """A hundred requests that no server should answer with 200, for one that takes so many bytes."""
    image = photograph()
    return [
        *_bad_images(image),
        *_bad_forms(image),
        *_bad_bodies(image, limit_bytes),
        *_bad_addresses(image),
    ]


def _posted(path: str, body: bytes, **headers: str) -> Callable[[Client], Answer]:
    return lambda client: client.ask(path, body, **headers)


def _bad_images(image: bytes) -> Iterator[BadRequest]:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = photograph(kind=kind)
        for share in (0.1, 0.5):
            cut = whole[: int(len(whole) * share)]
            yield f"{kind} cut at {share}", _posted("/segment", form(cut, words=WORDS))
    for size in ((30_000, 30_000), (12_000, 12_000), (65_000, 1_000), (2**31 - 1, 2**31 - 1), (0, 0)):
        yield f"bomb of {size}", _posted("/segment", form(png_bomb(*size), words=WORDS))
        yield f"bomb of {size} to encode", _posted("/encode", form(png_bomb(*size)))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    contents = {
        "nothing": b"",
        "a letter": b"x",
        "text": b"no image" * 99,
        "zeros": bytes(4096),
        "PostScript": postscript,
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a page": b"<html><img src=x></html>",
        "a zip": b"PK\x03\x04" + bytes(99),
        "a pickle": b"\x80\x04\x95" + bytes(99),
        "a path": b"/etc/passwd",
        "an address": b"http://127.0.0.1:1/photo.png",
        "PPM, which is not read": b"P6 3 2 255\n" + bytes(18),
        "noise behind a PNG's head": image[:16] + np.random.default_rng(1).bytes(999),
    }
    for told, content in contents.items():
        yield f"{told} as the image", _posted("/segment", form(content, words=WORDS))


def _bad_forms(image: bytes) -> Iterator[BadRequest]:
    options = {
        "threshold": ("1", "-0.1", "nan", "inf", "high", "1e9"),
        "refine": ("-1", "1.5", "many", "1000000", "9" * 5000),
        "output": ("xml", "", "../labels", "JSON"),
        "background": ("red circle", "background", ",,"),
    }
    for name, values in options.items():
        for value in values:
            body = form(image, words=WORDS, **{name: value})
            yield f"{name}={value[:20]}", _posted("/segment", body)
    for words in ("", " ", ",", "a,,b", "dog, dog", "x" * 3000, ", ".join(map(str, range(2000)))):
        yield f"words {words[:12]!r}", _posted("/segment", form(image, words=words))
    yield "no words", _posted("/segment", form(image))
    yield "no image", _posted("/segment", form(words=WORDS))
    for value in ("/etc/passwd", "../../etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/a.png"):
        yield (
            f"image as the text {value}",
            _posted("/segment", multipart(("image", value, None), ("words", WORDS, None))),
        )
        yield (
            f"encoding {value}",
            _posted("/segment_encoded", form(words=WORDS, encoding=value)),
        )
    yield "no encoding", _posted("/segment_encoded", form(words=WORDS))
    yield "words as a file", _posted("/segment", multipart(("image", image, "a"), ("words", WORDS, "w.txt")))
    yield "an unknown part", _posted("/segment", form(image, words=WORDS, checkpoint="/etc/passwd"))
    yield (
        "two images",
        _posted("/segment", multipart(("image", image, "a"), ("image", image, "b"), ("words", WORDS, None))),
    )
    yield "three images", _posted("/segment", multipart(*[("image", image, "a")] * 3))
    yield "many parts", _posted("/segment", multipart(*[("words", "a", None)] * 500))
    yield "words of a megabyte", _posted("/segment", form(image, words="a" * 2**19))


def _bad_bodies(image: bytes, limit: int) -> Iterator[BadRequest]:
    body = form(image, words=WORDS)
    yield "huge", _posted("/segment", form(bytes(limit + 1), words=WORDS))
    yield "huge to encode", _posted("/encode", form(bytes(2 * limit)))
    yield "huge as declared only", lambda client: client.raw(head("/segment", 2**40), b"--")
    piece = f"{2**16:x}\r\n".encode() + bytes(2**16) + b"\r\n"
    pieces = [piece] * (limit // 2**16 + 2)
    chunked = head("/segment", None, Transfer_Encoding="chunked")
    yield "huge in chunks", lambda client: client.raw(chunked, *pieces, b"0\r\n\r\n")
    yield "slow", lambda client: client.raw(head("/segment", len(body)), body[:60])
    yield (
        "slow, a byte now and then",
        lambda client: client.raw(head("/encode", len(body)), *[b"-"] * 30, pause=0.1),
    )
    for kind in ("text/plain", "application/json", "image/png", "application/x-www-form-urlencoded", "", "x"):
        yield f"of the type {kind!r}", _posted("/segment", body, Content_Type=kind)
    yield "no boundary", _posted("/segment", body, Content_Type="multipart/form-data")
    yield "another boundary", _posted("/segment", body, Content_Type="multipart/form-data; boundary=q")
    yield "no end", _posted("/segment", body[:-30])
    yield "empty", _posted("/segment", b"")
    yield "a part without a name", _posted("/segment", body.replace(b'; name="image"', b""))
    yield "a garbled head of a part", _posted("/segment", body.replace(b"Content-Disposition: ", b"\x00"))


def _bad_addresses(image: bytes) -> Iterator[BadRequest]:
    body = form(image, words=WORDS)
    for path in (
        "/",
        "/segments",
        "/../../etc/passwd",
        "/segment/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/segment%00",
        "//etc/passwd",
        "/docs/../../etc/passwd",
    ):
        yield f"at {path}", _posted(path, body)
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        yield f"{method} /segment", lambda client, method=method: client.ask("/segment", method=method)
    yield "POST /health", _posted("/health", body)
    yield "GET with the image in the address", lambda client: client.ask("/segment?image=/etc/passwd&words=a")


@contextmanager
def started(*flags: str) -> "Iterator[tuple[subprocess.Popen[str], Client]]":
    """``lexiseg serve --clip toy`` as a process of its own on a free port, heard already; killed at the end if it is there."""
    command = [
        sys.executable,
        "-m",
        "lexiseg.cli.main",
        "serve",
        "--clip",
        "toy",
        "--device",
        "cpu",
        "--port",
        "0",
    ]
    process = subprocess.Popen(
        [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", line)
        if found is None:
            raise RuntimeError(f"the server did not start: {line}{process.communicate()[1]}")
        yield process, Client(int(found[1]))
    finally:
        process.kill()
        process.communicate()


def stopped_under_load(
    process: "subprocess.Popen[str]", client: Client, body: bytes, count: int
) -> list[Answer]:
    """Answers to requests that were under way when SIGTERM came."""
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(client.ask, "/segment", body) for _ in range(count)]
        while f"lexiseg_requests_under_way {float(count)}" not in client.ask("/metrics").content.decode():
            if any(future.done() for future in futures):
                raise RuntimeError("a request was answered before all were under way; send more at once")
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        return [future.result() for future in futures]


def resident_mib(process: int) -> float:
    """Memory of a process. Linux."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
