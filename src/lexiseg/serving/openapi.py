"""What the OpenAPI page says of the routes; bodies are described here because they are read by hand, in bounds."""

from collections.abc import Mapping
from typing import Any, get_args

from lexiseg.data.io import PLAIN_FORMATS
from lexiseg.serving.options import MOST_ROUNDS, Output

ABOUT = """An image and words in, a labelled mask out.

Send a photograph and words to `/segment`; or a photograph once to `/encode`, and then words by words to `/segment_encoded`.
Every error is `{"error": "a sentence"}`. 503 comes with `Retry-After`."""

_IMAGE = {
    "type": "string",
    "format": "binary",
    "description": f"The content of an image file: {', '.join(PLAIN_FORMATS)}. EXIF orientation is applied.",
}
_OPTIONS: Mapping[str, Any] = {
    "words": {
        "type": "string",
        "description": 'Class names separated by commas or new lines, synonyms by ";".',
        "examples": ["cat; kitten, sofa, wall"],
    },
    "background": {
        "type": "string",
        "description": "What else may be in the picture: these words become class 0, the background.",
        "examples": ["floor, sky"],
    },
    "threshold": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 1,
        "description": "Pixels scored below go to the background, or to no class.",
    },
    "refine": {
        "type": "integer",
        "minimum": 0,
        "maximum": MOST_ROUNDS,
        "description": "Rounds of PAMR, which follows colours.",
    },
    "output": {
        "type": "string",
        "enum": list(get_args(Output)),
        "default": "json",
        "description": "JSON with run lengths, or a PNG: class ids, a coloured overlay, scores in grey.",
    },
}
_ENCODING = {"type": "string", "description": "The name that /encode gave."}

_FOUND = {
    "height": 3,
    "width": 4,
    "found": [
        {
            "id": 1,
            "name": "sofa",
            "pixels": 12,
            "area": 1.0,
            "mean_score": 0.71,
            "unseen": False,
            "rle": {"size": [3, 4], "counts": "0<"},
        }
    ],
    "id2label": {"0": "cat", "1": "sofa", "2": "wall"},
    "warning": None,
}


def _error(status: int, when: str, sentence: str) -> tuple[int | str, dict[str, Any]]:
    content = {"application/json": {"example": {"error": sentence}}}
    return status, {"description": when, "content": content}


_ERRORS: dict[int | str, dict[str, Any]] = dict(
    [
        _error(400, "A body that cannot be read", "the body ended before its declared length; send it whole"),
        _error(401, "No token, or another", "this server asks for a token; send it as a bearer token"),
        _error(
            408, "A body that came too slowly", "the body did not arrive within 20 seconds; send it faster"
        ),
        _error(413, "Too large", "the body has more than the 20971520 bytes that are read; shrink the image"),
        _error(415, "Another kind of body", "expected a body of type multipart/form-data, got text/plain"),
        _error(422, "Words, options or an image that mean nothing", "output: expected one of json, labels"),
        _error(503, "Too much at once, with Retry-After", "64 requests are under way; come again later"),
    ]
)
_NOT_KEPT = dict([_error(404, "No such encoding", "no encoding of this name is kept here, or no more")])


def _route(properties: Mapping[str, Any], required: list[str], content: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": dict(properties), "required": required}
    body = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    return {
        "openapi_extra": {"requestBody": body},
        "responses": {200: {"description": "Done", "content": dict(content)}, **_ERRORS},
    }


_ANSWER: Mapping[str, Any] = {
    "application/json": {"example": _FOUND},
    "image/png": {"schema": {"type": "string", "format": "binary"}},
}

SEGMENT = _route({"image": _IMAGE, **_OPTIONS}, ["image", "words"], _ANSWER)
ENCODE = _route(
    {"image": _IMAGE},
    ["image"],
    {"application/json": {"example": {"encoding": "wJ2b…", "height": 480, "width": 640}}},
)
SEGMENT_ENCODED = _route({"encoding": _ENCODING, **_OPTIONS}, ["encoding", "words"], _ANSWER)
SEGMENT_ENCODED["responses"] |= _NOT_KEPT
