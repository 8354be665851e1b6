import socket

import pytest

from lexiseg.errors import ConfigError
from lexiseg.recipes import serve
from lexiseg.recipes.serve import Serving, read_token, require_packages, require_unmasked


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "python_multipart" else object())
    with pytest.raises(ConfigError, match=r"needs python-multipart, not installed.*lexiseg\[serve\]"):
        require_packages()


def test_a_token_is_one_long_word(tmp_path):
    path = tmp_path / "token"
    path.write_text(" 0123456789abcdef\n")
    assert read_token(path) == "0123456789abcdef"
    for text in ("", "short", "0123456789 abcdef", "0123456789abcdeé", "0123456789\nabcdef"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="token"):
            read_token(path)
    with pytest.raises(ConfigError, match="absent"):
        read_token(tmp_path / "absent")


def test_an_address_that_is_taken_shows_before_a_model_is_loaded():
    pytest.importorskip("uvicorn")
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            Serving(port=port).run(lambda: pytest.fail("it was loaded"), print)
    with pytest.raises(ConfigError, match="--port"):
        Serving(port=99999).run(lambda: pytest.fail("it was loaded"), print)


def test_a_method_inside_masks_is_refused_before_anything_is_loaded():
    for method in ("lavg", "corrclip"):
        with pytest.raises(
            ConfigError, match=f"{method} reads a photograph inside masks, and clients .* send none"
        ):
            require_unmasked(method)
    require_unmasked("sc-clip")
    require_unmasked(None)
