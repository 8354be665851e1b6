"""Photographs and words to answers: decoding in a few threads, the model in one, nothing of it on the event loop."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, TypeVar

from lexiseg.data.io import read_content
from lexiseg.inference.encoding import EncodedImage, Picture
from lexiseg.inference.pipeline import Pipeline
from lexiseg.inference.refine import require_affordable
from lexiseg.inference.regions import masks_unserved
from lexiseg.inference.result import Segmentation
from lexiseg.inference.segmenter import Segmenter
from lexiseg.inference.words import tell_unknown
from lexiseg.ops.run_length import compress_counts, encode_labels
from lexiseg.serving.batcher import Batcher
from lexiseg.serving.encodings import Encodings, encoded_bytes
from lexiseg.serving.limits import Limits
from lexiseg.serving.metrics import ServerMetrics
from lexiseg.serving.options import Output, Rules
from lexiseg.serving.refusal import Refusal, come_again
from lexiseg.storage import json_text

T = TypeVar("T")

_THREADS = 2
"""Which decode and encode pictures; torch has the other cores."""

_SEGMENTERS = 32
"""Sets of rules whose embedded words are kept."""

_Kind = Literal["segment", "encode", "segment_encoded"]
_Key = tuple[_Kind, Rules | None, bool]


class Service:
    """Answers requests with a pipeline; what it says of a photograph is what the pipeline's segmenter says.

    Args:
        pipeline: Words are embedded in memory only, whatever it does itself.
        limits: Of pictures, time and memory.
        metrics: Hears of batches.

    Raises:
        ConfigError: A model that reads inside masks, which nobody sends here.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits, metrics: ServerMetrics) -> None:
        if pipeline.model.needs.masks:
            raise masks_unserved(type(pipeline.model).__name__)
        self.encodings = Encodings(limits.cache_bytes)
        self.batcher = Batcher(
            self._answer,
            most=limits.batch,
            most_weight=limits.pixels,
            gather_seconds=limits.gather_seconds if limits.batch > 1 else 0,
        )
        self._pipeline = replace(pipeline, keeps_words=False)
        self._limits, self._metrics = limits, metrics
        self._pool = ThreadPoolExecutor(_THREADS, "pictures")
        self._pictures = asyncio.Semaphore(2 * limits.batch)  # decoded: one batch at work, one ready
        self._segmenters: OrderedDict[Rules | None, Segmenter] = OrderedDict()
        metrics.watch(self.batcher, self.encodings)

    async def segment(self, image: bytes, rules: Rules, output: Output) -> bytes:
        """A photograph's labels as JSON or PNG.

        Raises:
            LexisegError: As :meth:`Pipeline.segmenter` and :meth:`Segmenter.segment` raise it.
            Refusal: Nobody came to it in time.
        """
        async with self._in_time(), self._pictures:
            picture = await self._decoded(image)
            self._require_affordable(rules, picture)
            result = await self._done(("segment", rules, _scored(output)), picture, _pixels(picture))
            return await self._apart(lambda: written(result, output, picture, self._warning(rules)))

    async def encode(self, image: bytes) -> dict[str, Any]:
        """A photograph read once; what :meth:`segment_encoded` asks for by name.

        Raises:
            LexisegError: As :meth:`Segmenter.encode` raises it.
            Refusal: Nobody came to it in time, or it is larger than all that may be kept.
        """
        async with self._in_time(), self._pictures:
            picture = await self._decoded(image)
            encoded = await self._done(("encode", None, False), picture, _pixels(picture))
            name = self.encodings.put(encoded)
        if name is None:
            raise Refusal(
                413,
                f"the encoding takes {encoded_bytes(encoded)} bytes, and at most {self._limits.cache_bytes} are kept; "
                "shrink the image, or ask /segment",
                "encoding",
            )
        height, width = picture.shape[:2]
        return {"encoding": name, "height": height, "width": width}

    async def segment_encoded(self, name: str, rules: Rules, output: Output) -> bytes:
        """As :meth:`segment`, of a photograph that :meth:`encode` has read.

        Raises:
            LexisegError: As :meth:`Segmenter.segment_encoded` raises it.
            Refusal: Nobody came to it in time, or there is no such encoding.
        """
        encoded = self.encodings.get(name)
        if encoded is None:
            raise Refusal(
                404,
                "no encoding of this name is kept here, or no more; send the image to /encode again",
                "encoding",
            )
        self._require_affordable(rules, encoded.image)
        async with self._in_time():
            key: _Key = ("segment_encoded", rules, _scored(output))
            result = await self._done(key, encoded, _pixels(encoded.image))
            return await self._apart(lambda: written(result, output, encoded.image, self._warning(rules)))

    def close(self) -> None:
        """Finish what waits, and take nothing more."""
        self.batcher.close()
        self._pool.shutdown()

    def _require_affordable(self, rules: Rules, picture: Picture) -> None:
        steps = self._pipeline.protocol.pamr_steps if rules.refine is None else rules.refine
        words = sum(map(len, rules.words.words)) + len(rules.background or ())
        require_affordable(_pixels(picture), words, steps, most=self._limits.refinement)

    def _in_time(self) -> "_InTime":
        return _InTime(self._limits)

    async def _decoded(self, image: bytes) -> Picture:
        most = self._limits.pixels
        return await self._apart(lambda: read_content(image, most_pixels=most))

    async def _apart(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _done(self, key: _Key, item: Picture | EncodedImage, weight: int) -> Any:
        return await asyncio.wrap_future(self.batcher.submit(key, item, weight=weight))

    def _answer(self, key: _Key, items: Sequence[Any]) -> Sequence[Any]:
        """In the model's thread."""
        kind, rules, scores = key
        self._metrics.batch_sizes.labels(kind).observe(len(items))
        segmenter = self._segmenter(rules)
        if kind == "segment":
            return segmenter.segment_batch(items, scores=scores)
        if kind == "encode":
            return [segmenter.encode(item) for item in items]
        return [segmenter.segment_encoded(item, scores=scores) for item in items]

    def _segmenter(self, rules: Rules | None) -> Segmenter:
        if rules not in self._segmenters:
            if len(self._segmenters) == _SEGMENTERS:
                self._segmenters.popitem(last=False)
            self._segmenters[rules] = self._made(rules)
        self._segmenters.move_to_end(rules)
        return self._segmenters[rules]

    def _warning(self, rules: Rules) -> str:
        return tell_unknown(self._pipeline.clip, rules.words, rules.background or ())

    def _made(self, rules: Rules | None) -> Segmenter:
        if rules is None:  # photographs are read before any word is known
            return self._pipeline.segmenter(None if self._pipeline.split else _ANY_WORD)
        return self._pipeline.segmenter(
            rules.words, background=rules.background, threshold=rules.threshold, refine=rules.refine
        )


class _InTime:
    """Time for an answer; a refusal where it runs out."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._clock = limits, asyncio.timeout(limits.seconds)

    async def __aenter__(self) -> None:
        await self._clock.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        try:
            await self._clock.__aexit__(*error)
        except TimeoutError:
            told = f"the server did not come to an answer within {self._limits.seconds:g} seconds; come again later"
            raise come_again(told, self._limits.retry_seconds, "time") from None


_ANY_WORD = "thing"


def written(result: Segmentation, output: Output, picture: Picture, warning: str = "") -> bytes:
    """A result as a client gets it: a PNG, or JSON with COCO's run lengths of each class that was found, and a warning."""
    if output != "json":
        return result.to_bytes(output, image=picture)
    told = {**result.to_dict(), "warning": warning or None}
    ids = sorted(result.counts)
    counts = dict(zip(ids, encode_labels(result.labels), strict=True))
    for found in told["found"]:
        found["rle"] = {"size": list(result.size), "counts": compress_counts(counts[found["id"]])}
    return json_text(told).encode()


def _scored(output: Output) -> bool:
    """Labels alone are faster, and the same."""
    return output in ("json", "scores")


def _pixels(picture: Picture) -> int:
    return picture.shape[0] * picture.shape[1]
