"""Flags of ``lexiseg serve``."""

from pathlib import Path

from lexiseg.cli.parsers.shared import DEVICE, METHOD, READER, Command, Flag

_DESCRIPTION = """Answer over HTTP: POST /segment (image, words), /encode and /segment_encoded; GET /health, /metrics, /docs.

Photographs of several clients are read together. Without --checkpoint a training-free reading of CLIP answers. TLS and
limits per client belong to a proxy in front. Needs: pip install 'lexiseg[serve]'."""

_EXAMPLES = """examples:
  lexiseg serve --clip toy                                       offline, toy scenes only
  lexiseg serve --checkpoint runs/camvid/best.ckpt --host 0.0.0.0 --token-file token.txt
  lexiseg serve --method sc-clip --limit pixels=12000000 --limit requests=256 --limit batch=16
  curl -F image=@photo.jpg -F words="dog, grass" http://127.0.0.1:8000/segment"""

COMMAND = Command(
    "serve",
    "answer over HTTP, many clients at once",
    "lexiseg.cli.serve:run",
    _DESCRIPTION,
    _EXAMPLES,
    (
        *READER,
        DEVICE,
        Flag("--host", "ADDRESS", "to listen at; 0.0.0.0 for all of this machine", default="127.0.0.1"),
        Flag("--port", "PORT", "to listen at; 0 for any that is free", default=8000, kind=int),
        Flag("--token-file", "FILE", "holds the token that clients have to bear", kind=Path),
        Flag(
            "--limit",
            "NAME=NUMBER",
            "bytes, pixels, words, refinement, upload_seconds, seconds, requests, retry_seconds, batch, gather_seconds, "
            "cache_bytes: docs/serving.md says what each is; may be repeated",
            more={"action": "append", "dest": "limits"},
        ),
        METHOD,
    ),
)
