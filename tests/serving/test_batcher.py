import threading

import pytest

from lexiseg.serving.batcher import Batcher


class Recorder:
    """Doubles numbers; remembers what it was handed together, and waits where it is told to."""

    def __init__(self):
        self.batches = []
        self.free = threading.Event()
        self.busy = threading.Event()

    def __call__(self, key, items):
        self.batches.append((key, list(items)))
        self.busy.set()
        self.free.wait(10)
        if any(item < 0 for item in items):
            raise ValueError(f"negative among {list(items)}")
        return [2 * item for item in items]


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    made.free.set()


def handed(recorder, jobs, **settings):
    """Results of jobs that all wait while a first one is at work, and the batches after it."""
    batcher = Batcher(recorder, **settings)
    first = batcher.submit("first", 0)
    assert recorder.busy.wait(10)
    futures = [batcher.submit(key, item, weight=weight) for key, item, weight in jobs]
    recorder.free.set()
    batcher.close()
    assert first.result() == 0
    return futures, recorder.batches[1:]


def test_what_waits_under_one_key_is_done_together_in_order(recorder):
    jobs = [("a", 1, 0), ("b", 2, 0), ("a", 3, 0), ("a", 5, 0), ("b", 7, 0)]
    futures, batches = handed(recorder, jobs, most=2)
    assert [future.result() for future in futures] == [2, 4, 6, 10, 14]
    assert batches == [("a", [1, 3]), ("b", [2, 7]), ("a", [5])]


def test_a_batch_has_a_weight(recorder):
    jobs = [("a", 1, 5), ("a", 2, 3), ("a", 3, 2), ("a", 4, 11)]
    _, batches = handed(recorder, jobs, most=5, most_weight=7)
    assert batches == [("a", [1, 3]), ("a", [2]), ("a", [4])]


def test_a_mistake_is_its_own_only(recorder):
    futures, batches = handed(recorder, [("a", 1, 0), ("a", -2, 0), ("a", 3, 0)], most=3)
    assert [futures[0].result(), futures[2].result()] == [2, 6]
    with pytest.raises(ValueError, match=r"among \[-2\]"):
        futures[1].result()
    assert len(batches) == 4


def test_who_has_left_is_left_out(recorder):
    batcher = Batcher(recorder, most=3)
    batcher.submit("first", 0)
    assert recorder.busy.wait(10)
    futures = [batcher.submit("a", item) for item in (1, 2, 3)]
    assert futures[1].cancel()
    recorder.free.set()
    batcher.close()
    assert recorder.batches[1:] == [("a", [1, 3])]


def test_an_item_that_came_alone_waits_for_others(recorder):
    recorder.free.set()
    batcher = Batcher(recorder, most=2, gather_seconds=10)
    one = batcher.submit("a", 1)
    assert not recorder.busy.wait(0.05)
    other = batcher.submit("a", 2)
    assert [one.result(10), other.result(10)] == [2, 4]
    assert recorder.batches == [("a", [1, 2])]
    batcher.close()


def test_nothing_is_taken_after_the_end(recorder):
    batcher = Batcher(recorder, most=2)
    recorder.free.set()
    batcher.close()
    with pytest.raises(RuntimeError):
        batcher.submit("a", 1)


def test_what_was_cancelled_is_let_go_at_once(recorder):
    """Behind a long answer, photographs that nobody waits for any more would fill the memory."""
    batcher = Batcher(recorder, most=3)
    first = batcher.submit("first", 0)
    assert recorder.busy.wait(10)
    waiting = [batcher.submit("a", item) for item in (1, 2, 3, 5, 7)]
    assert len(batcher) == 5
    assert all(future.cancel() for future in waiting[:4])
    assert len(batcher) == 1
    recorder.free.set()
    batcher.close()
    assert (first.result(), waiting[4].result()) == (0, 14)


def test_the_only_one_that_waits_for_others_may_leave(recorder):
    recorder.free.set()
    batcher = Batcher(recorder, most=2, gather_seconds=30)
    assert batcher.submit("a", 1).cancel()
    later = [batcher.submit("a", item) for item in (2, 3)]
    assert [future.result(10) for future in later] == [4, 6]
    batcher.close()
