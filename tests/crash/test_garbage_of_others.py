"""Owns the promise that what a worker has not taken apart yet is nobody's loss: whoever lacks a
place for a pool takes it apart."""
import os
import signal
import threading

import engine
from tests.stopped import Stopped


def flush(mine):
    mine.pool("old").flush_object((1, 0, 0))


def test_a_destroyed_pool_whose_destroyer_does_nothing_more_keeps_no_place(make_arena):
    eng = make_arena(capacity="2MiB", page_size=4096, buckets=1, max_pools=2, max_workers=8)
    eng.new_pool("old", persistent=True).put((1, 0, 0), 0, b"x" * 3000)
    eng.new_pool("other")
    with engine.attach(eng.name) as idle:
        with Stopped(eng.name, flush, 20) as holder:
            assert holder.stopped                   # it has the bucket: the pool cannot be taken apart
            idle.pool("old").destroy()
            assert holder.go_on() in (0, 1)         # flushed, or told that the pool was destroyed
        assert eng.new_pool("new").put((1, 0, 0), 0, b"y" * 3000)
        assert eng.check().ok


def test_a_put_waits_for_who_is_in_the_middle_of_destroying_a_pool(make_arena):
    """All memory is the destroyed pool's: nothing can be evicted, and nothing is given back before
    its destroyer, who stands still in the middle, goes on."""
    eng = make_arena(capacity="2MiB", page_size=4096, buckets=16, max_workers=8)
    old, new = eng.new_pool("old", persistent=True), eng.new_pool("new")
    n = 0
    while old.put((n, 0, 0), 0, os.urandom(3000)):
        n += 1
    with Stopped(eng.name, lambda mine: mine.pool("old").destroy(), 60) as destroyer:
        assert destroyer.stopped and eng.stats()["arena"]["bytes_leaving"] > 1 << 19
        later = threading.Timer(0.03, os.kill, (destroyer.pid, signal.SIGCONT))
        later.start()
        assert new.put((1, 0, 0), 0, os.urandom(3000))
        later.join()
        assert destroyer.end() == 0
    assert eng.check().ok


def test_nobody_waits_long_for_a_destroyer_who_stands_still(make_arena):
    eng = make_arena(capacity="2MiB", page_size=4096, buckets=16, max_workers=8)
    old, new = eng.new_pool("old", persistent=True), eng.new_pool("new")
    n = 0
    while old.put((n, 0, 0), 0, os.urandom(3000)):
        n += 1
    with Stopped(eng.name, lambda mine: mine.pool("old").destroy(), 60) as destroyer:
        assert destroyer.stopped
        assert not new.put((1, 0, 0), 0, os.urandom(3000))
        assert destroyer.go_on() == 0
    assert new.put((1, 0, 0), 0, os.urandom(3000)) and eng.check().ok
