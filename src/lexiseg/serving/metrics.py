"""What a server counts, in Prometheus's text form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lexiseg.serving.batcher import Batcher
from lexiseg.serving.encodings import Encodings

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 32)


class ServerMetrics:
    """Counts of one server; another one in the same process has its own.

    Attributes:
        answered: Answers by route and status.
        refused: Refusals by kind.
        seconds: From a request's head to its answer, by route.
        batch_sizes: Photographs that were handed to the model together.
        under_way: Requests that are read or answered.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.answered = Counter(
            "lexiseg_requests", "Answers by route and status", ("route", "status"), registry=registry
        )
        self.refused = Counter("lexiseg_refusals", "Refused requests by kind", ("kind",), registry=registry)
        self.seconds = Histogram(
            "lexiseg_request_seconds", "Time of a request", ("route",), buckets=_SECONDS, registry=registry
        )
        self.batch_sizes = Histogram(
            "lexiseg_batch_size", "Items done together", ("kind",), buckets=_SIZES, registry=registry
        )
        self.under_way = Gauge(
            "lexiseg_requests_under_way", "Requests that are read or answered", registry=registry
        )

    def watch(self, batcher: Batcher, encodings: Encodings) -> None:
        """Tell how full these are whenever somebody asks."""
        for name, told, read in (
            ("lexiseg_waiting", "Items that wait for the model", lambda: len(batcher)),
            ("lexiseg_encodings", "Encoded photographs kept", lambda: len(encodings)),
            ("lexiseg_encodings_bytes", "Memory of them", lambda: encodings.bytes),
        ):
            Gauge(name, told, registry=self._registry).set_function(read)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return bytes(generate_latest(self._registry))
