"""Owns several processes at once over long pages in a small arena, some of which are killed: every
byte that anybody reads is of one page that was put, and the arena is sound at the end."""
import contextlib
import os
import random
import signal
import time

import pytest

import engine
from tests.crash.test_long_pages import MIB, page
from tests.stopped import fork

SECONDS = 20 if os.environ.get("EVERY_POINT") else 2
WORKERS = 4
KEYS = 24
LENGTHS = (1, 3000, 65_536, 65_537, 90_000, 300_000, 700_000)


def body(key, tag, length):
    """The page says its handle, and all of it says which put it is of."""
    return (b"%d:%d;" % (key, tag) * (length // 4 + 1))[:length]


def is_right(key, data):
    head, found, _ = bytes(data[:40]).partition(b";")
    if not found:
        return len(data) < 40 and b"%d:" % key == bytes(data[:len(b"%d:" % key)])[:len(data)] or len(data) <= 3
    unit = head + b";"
    return head.startswith(b"%d:" % key) and bytes(data) == (unit * (len(data) // len(unit) + 1))[:len(data)]


def work(name, seed, until):
    rnd = random.Random(seed)
    held = []
    with engine.attach(name) as eng:
        pools = [eng.pool("e"), eng.pool("p")]
        while time.monotonic() < until:
            pool, key = rnd.choice(pools), rnd.randrange(KEYS)
            data = body(key, rnd.getrandbits(40), rnd.choice(LENGTHS))
            verb = rnd.randrange(8)
            try:
                if verb < 2:
                    pool.put((key, 0, 0), 0, data)
                elif verb < 4:
                    with pool.writing((key, 0, 0), 0, len(data)) as buffer:
                        buffer[:len(data) // 2] = data[:len(data) // 2]
                        buffer[len(data) // 2:] = data[len(data) // 2:]
                        if rnd.random() < 0.2:
                            buffer.abort()
                elif verb == 4:
                    pool.flush_page((key, 0, 0), 0)
                elif verb == 5:
                    view = pool.view((key, 0, 0), 0)
                    if view.found:
                        held.append((key, view, view.__enter__()))
                else:
                    found = pool.get((key, 0, 0), 0)
                    assert found is None or is_right(key, found), (key, len(found), found[:40])
            except (engine.ArenaFull, engine.TooMuchPinned):
                pass
            while len(held) > 2 or held and verb == 4:
                key, view, seen = held.pop(0)
                assert is_right(key, seen), (key, len(seen), bytes(seen[:40]))
                del seen
                view.__exit__(None, None, None)
        for _, view, seen in held:
            del seen
            view.release()
        held.clear()


@pytest.mark.timeout(120)
def test_long_pages_in_a_storm(make_arena):
    eng = make_arena(capacity="8MiB", page_size=4096, max_workers=12, max_pinned="4MiB")
    eng.new_pool("e", page_size="1MiB")
    eng.new_pool("p", persistent=True, page_size="1MiB")
    until = time.monotonic() + SECONDS
    rnd = random.Random(3)
    seeds = iter(range(10**6))
    children = [fork(work, eng.name, next(seeds), until) for _ in range(WORKERS)]
    while time.monotonic() < until - 0.3:
        time.sleep(rnd.uniform(0.02, 0.15))
        victim = children.pop(rnd.randrange(len(children)))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), status
        if rnd.random() < 0.2:
            with contextlib.suppress(engine.TmemError):     # persistent pages may need more
                eng.resize(rnd.choice([5, 6, 8]) * MIB)
        children.append(fork(work, eng.name, next(seeds), until))
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    eng.recover()
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:5]]
    assert report.counts["pins"] == report.counts["limbo"] == 0
    for pool in eng.pools():
        for key in range(KEYS):
            found = pool.get((key, 0, 0), 0)
            assert found is None or is_right(key, found)
        pool.destroy()
    eng.resize("8MiB")
    assert eng.new_pool("all", persistent=True, page_size="8MiB").put((0, 0, 0), 0, page(0, 3 * MIB) * 2)
    assert eng.check().ok
