"""Send a hundred bad requests to a real server, then stop it while it answers good ones.

    python scripts/check_server.py

Starts ``lexiseg serve --clip toy`` on loopback. Each bad request (huge, truncated, of a wrong type, a path or an address where
an image belongs, decompression bombs, slow bodies) must be answered by a status of 400 to 499 and one sentence; afterwards
the server must give the same answer as before, to the byte. Then SIGTERM comes while requests are under way: each must be
answered, the process must end with status 143 and one line. Needs the extra: pip install 'lexiseg[serve]'.
"""

import collections
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

from serving_cases import (  # noqa: E402
    WORDS,
    Answer,
    bad_requests,
    form,
    photograph,
    resident_mib,
    started,
    stopped_under_load,
)

_BYTES = 2**18
_LIMITS = (f"bytes={_BYTES}", "pixels=1000000", "upload_seconds=1", "batch=1")
_UNDER_WAY = 12


def main() -> int:
    """Print what was found; 1 where anything is wrong."""
    flags = [part for limit in _LIMITS for part in ("--limit", limit)]
    with started(*flags) as (process, client):
        body = form(photograph(131, 173), words=WORDS)
        expected = client.ask("/segment", body)
        memory = resident_mib(process.pid)
        wrong: list[str] = []
        statuses, slowest = collections.Counter[int](), 0.0
        cases = bad_requests(_BYTES)
        for told, send in cases:
            began = time.perf_counter()
            answer = send(client)
            slowest = max(slowest, time.perf_counter() - began)
            statuses[answer.status] += 1
            if not _is_a_refusal(answer):
                wrong.append(f"{told}: {answer.status} {answer.content[:200]!r}")
        if expected.status != 200 or client.ask("/segment", body).content != expected.content:
            wrong.append("the answer to a good request has changed")
        grown = resident_mib(process.pid) - memory
        answers = stopped_under_load(process, client, body, _UNDER_WAY)
        if any(answer.content != expected.content for answer in answers):
            wrong.append("SIGTERM: not every request under way was answered")
        _, said = process.communicate(timeout=60)
        if process.returncode != 143 or len(_own_lines(said)) != 1:
            wrong.append(f"SIGTERM: status {process.returncode}, and it said {said!r}")
    counted = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(
        f"{len(cases)} bad requests: {counted}; the slowest took {slowest:.1f} s; memory grew by {grown:.0f} MiB"
    )
    print(
        f"SIGTERM with {_UNDER_WAY} requests under way: {len(answers)} answered, status {process.returncode}"
    )
    print("\n".join(wrong) or "all is as it should be")
    return int(bool(wrong))


def _own_lines(said: str) -> list[str]:
    """Without what loading said of itself."""
    return [line for line in said.splitlines() if not line.startswith("[")]


def _is_a_refusal(answer: Answer) -> bool:
    if not 400 <= answer.status < 500 or list(answer.json) != ["error"]:
        return False
    sentence = answer.json["error"]
    return 20 < len(sentence) < 400 and "\n" not in sentence and "Traceback" not in sentence


if __name__ == "__main__":
    sys.exit(main())
