"""Owns the promise that what a worker has not taken apart yet is nobody's loss: whoever lacks a
place for a pool takes it apart."""
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
