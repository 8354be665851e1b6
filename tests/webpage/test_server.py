import socket

import pytest

from lexiseg.errors import ConfigError
from lexiseg.webpage.server import listening, running


def test_any_free_port_is_listened_at_and_given_back():
    with listening("127.0.0.1", 0) as door:
        place = door.getsockname()
        assert place[1] > 0
        with socket.create_connection(place, timeout=5):
            pass
        with (
            pytest.raises(
                ConfigError, match=f"cannot listen at 127.0.0.1:{place[1]} .*; give another --host or --port"
            ),
            listening(*place),
        ):
            pass
    with listening(*place):
        pass


@pytest.mark.parametrize(
    ("host", "port", "told"),
    [
        ("127.0.0.1", 70000, "--port is 70000; expected a number from 0"),
        ("127.0.0.1", -1, "--port is -1; expected a number from 0"),
        ("no.such.host.invalid", 0, "cannot listen at no.such.host.invalid:0 "),
        ("a" * 70, 0, "cannot listen at a"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(host, port, told):
    with pytest.raises(ConfigError, match=told), listening(host, port):
        pass


def test_an_application_answers_while_the_block_runs():
    pytest.importorskip("uvicorn")

    async def hello(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    with listening("127.0.0.1", 0) as door, running(hello, door) as address:
        place = door.getsockname()
        assert address == f"http://127.0.0.1:{place[1]}/"
        with socket.create_connection(place, timeout=5) as call:
            call.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert call.makefile("rb").read().endswith(b"hello")
