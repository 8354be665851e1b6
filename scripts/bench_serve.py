"""Many clients at once: throughput, waiting times, errors and memory of a server, with and without batching.

    python scripts/bench_serve.py [--clients 200] [--seconds 60] [--method sc-clip]

Starts ``lexiseg serve --clip toy`` on loopback three times: reading photographs of several clients together; one by one; and
with its own limits, where most clients are refused, wait as Retry-After says and come again. Each client sends one of a few
scenes of the toy world and the next one once it has an answer. What began within the time counts, and its answer is
awaited. Clients are a process of their own on the same cores. Needs the extra: pip install 'lexiseg[serve]'. Linux.
"""

import argparse
import asyncio
import collections
import io
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from lexiseg.data.toy.world import ToyWorld  # noqa: E402
from serving_cases import WORDS, form, head, resident_mib, started  # noqa: E402

_SCENES = 8
_RUNS = {
    "batches of 8": ("batch=8", "requests=256", "seconds=120"),
    "one by one": ("batch=1", "requests=256", "seconds=120"),
    "its own limits": (),
}


@dataclass
class Tally:
    """What clients saw.

    Attributes:
        seconds: Of each answer with status 200.
        others: Count by status, or by the name of an error.
    """

    seconds: list[float] = field(default_factory=list)
    others: "collections.Counter[str]" = field(default_factory=collections.Counter)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--method", default="sc-clip")
    args = parser.parse_args()
    bodies = scenes()
    print(f"{args.clients} clients, {args.seconds:g} s, {args.method} on the toy CLIP")
    print("| | answers/s | p50 s | p95 s | p99 s | photographs a batch | others | MiB before, after |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, limits in _RUNS.items():
        flags = [part for limit in limits for part in ("--limit", limit)]
        with started("--method", args.method, *flags) as (process, client):
            for body in bodies:
                client.ask("/segment", body)
            before, tally, began = resident_mib(process.pid), Tally(), time.perf_counter()
            asyncio.run(_crowd(client.port, bodies, args.clients, args.seconds, tally))
            took, after = time.perf_counter() - began, resident_mib(process.pid)
            joined = mean_batch(client.ask("/metrics").content.decode())
            if client.ask("/segment", bodies[0]).status != 200:
                tally.others["dead afterwards"] += 1
        p50, p95, p99 = np.percentile(tally.seconds, (50, 95, 99)) if tally.seconds else (0.0,) * 3
        others = ", ".join(f"{what}: {count}" for what, count in sorted(tally.others.items())) or "none"
        print(
            f"| {name} | {len(tally.seconds) / took:.1f} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {joined:.1f} | {others} | "
            f"{before:.0f}, {after:.0f} |",
            flush=True,
        )


def scenes() -> list[bytes]:
    """Bodies with a scene of the toy world each, 64x96 pixels."""
    world = ToyWorld(partition="val", length=_SCENES, image_size=(64, 96))
    bodies = []
    for index in range(_SCENES):
        file = io.BytesIO()
        Image.fromarray(world[index].image).save(file, "PNG")
        bodies.append(form(file.getvalue(), words=WORDS))
    return bodies


async def _crowd(port: int, bodies: list[bytes], clients: int, seconds: float, tally: Tally) -> None:
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, bodies, number, until, tally) for number in range(clients)))


async def _client(port: int, bodies: list[bytes], number: int, until: float, tally: Tally) -> None:
    while (began := time.perf_counter()) < until:
        number += 1
        try:
            status, again = await _asked(port, bodies[number % len(bodies)])
        except (OSError, asyncio.IncompleteReadError, ValueError, IndexError) as error:
            tally.others[type(error).__name__] += 1
            await asyncio.sleep(1)
            continue
        if status == 200:
            tally.seconds.append(time.perf_counter() - began)
        else:
            tally.others[str(status)] += 1
            await asyncio.sleep(again)


async def _asked(port: int, body: bytes) -> tuple[int, float]:
    """Status, and seconds after which to come again."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head("/segment", len(body), Connection="close") + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        await reader.readexactly(int(headers["content-length"]))
        return int(lines[0].split()[1]), float(headers.get("retry-after", 0))
    finally:
        writer.close()


def mean_batch(metrics: str) -> float:
    """Photographs that were read together, on average."""
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line and line[0] != "#")
    name = 'lexiseg_batch_size_{}{{kind="segment"}}'
    return float(values[name.format("sum")]) / float(values[name.format("count")])


if __name__ == "__main__":
    main()
