import threading
import time

import pytest

from hwprune.store.writer import Writer


def test_everything_is_stored_in_order_on_leaving():
    stored = []
    with Writer(stored.extend) as writer:
        for i in range(1000):
            writer.put(i)
    assert stored == list(range(1000))


def test_a_single_item_is_not_kept_waiting():
    stored = threading.Event()
    with Writer(lambda _: stored.set()) as writer:
        writer.put(1)
        assert stored.wait(10)


def test_what_comes_meanwhile_goes_into_the_next_call():
    calls, go = [], threading.Event()

    def store(items):
        calls.append(items)
        go.wait(10)

    with Writer(store) as writer:
        writer.put(0)
        while not calls:
            time.sleep(0.001)
        for i in range(1, 5):
            writer.put(i)
        go.set()
    assert calls == [[0], [1, 2, 3, 4]]


def test_an_error_reaches_whoever_measures():
    with pytest.raises(OSError, match="full"), Writer(_fail) as writer:
        put_forever(writer)


def test_an_error_at_the_end_is_not_lost():
    with pytest.raises(OSError, match="full"), Writer(_fail) as writer:
        writer.put(1)


def test_an_interrupt_stores_what_is_there_and_passes():
    stored = []
    with pytest.raises(KeyboardInterrupt), Writer(stored.extend) as writer:
        put_and_interrupt(writer)
    assert stored == [1]


def _fail(_items):
    raise OSError("full")


def put_forever(writer):
    while True:
        writer.put(1)


def put_and_interrupt(writer):
    writer.put(1)
    raise KeyboardInterrupt
