"""Owns what a fork in the middle of a far tier's work leaves: parent and child go on, each by
itself.
"""
import os
import threading

import pytest

import engine
from engine.far.file import FileTier
from tests.contract.fars import PAGE, assert_sound, content, far_ones, fill, fresh_dict_tier, get, stats

PAGES = 900


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch)


@pytest.fixture
def pool(make_arena, kind):
    found = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool("p", far="dict:")
    fill(found, PAGES)
    return found


def fork_at(kind, verb):
    """Fork when the tier is asked next with this verb: a list that gets the pid, 0 in the child."""
    pids = []

    def meddle(asked, names):
        if asked == verb and not pids:
            kind.before = None
            pids.append(os.fork())
    kind.before = meddle
    return pids


def use(pool, start):
    """Puts, gets and spills of who goes on."""
    for n in range(start, start + 300):
        assert pool.put((n, 1, 0), 0, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    for n in range(PAGES):
        assert get(pool, n) in (None, content(n))
    for n in range(start, start + 300):
        assert pool.get((n, 1, 0), 0) in (None, content(n))
    assert stats(pool)["checksum_bad"] == 0


def both_go_on(pids, pool, child):
    """The child does its part and ends; then the parent does its own."""
    if pids[0] == 0:
        code = 1
        try:
            child()
            use(pool, 5000)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pids[0], 0)[1] == 0
    use(pool, 6000)
    assert_sound(pool.engine)


def test_a_fork_while_pages_are_given_to_the_tier(pool, kind):
    pids = fork_at(kind, "put")
    told = None
    for n in range(2000, 2000 + PAGES):
        assert pool.put((n, 2, 0), 0, content(n))
        try:
            pool.engine.spill()
        except engine.TmemError as error:
            told = str(error)
        if pids:
            break

    def child():
        assert "forked in the middle" in told
    both_go_on(pids, pool, child)
    assert told is None


def test_a_fork_while_a_page_is_fetched(pool, kind):
    n = far_ones(pool, kind, PAGES)[0]
    pids = fork_at(kind, "get")
    found = get(pool, n)
    assert found == content(n)
    both_go_on(pids, pool, lambda: None)


def test_a_fork_while_the_tier_hears_of_the_dead(pool, kind):
    for n in far_ones(pool, kind, PAGES)[:40]:
        assert pool.flush_page((n // 16, 0, 0), n % 16)
    pids = fork_at(kind, "delete")
    try:
        pool.engine.spill()
    except engine.TmemError as error:
        assert pids[0] == 0 and "forked in the middle" in str(error)
    both_go_on(pids, pool, lambda: None)


def test_a_fork_while_another_thread_has_a_file_write_a_batch(make_arena, tmp_path, monkeypatch):
    """The child has no such thread, which would end the write: it begins its own all the same."""
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool(
        "p", far=f"file://{tmp_path}/far?size=16MiB")
    fill(pool, PAGES)
    under_way, forked = threading.Event(), threading.Event()
    end_put = FileTier.end_put

    def slow(tier):
        if threading.current_thread() is not threading.main_thread():
            under_way.set()
            assert forked.wait(60)
        return end_put(tier)
    monkeypatch.setattr(FileTier, "end_put", slow)
    for n in range(1000, 1100):
        assert pool.put((n, 1, 0), 0, content(n))
    thread = threading.Thread(target=pool.engine.spill)
    thread.start()
    assert under_way.wait(60)
    go_on, go = os.pipe()
    pids = [os.fork()]

    def child():
        os.read(go_on, 1)           # until the parent's thread spills no more
        before = stats(pool)["spilled"]
        use(pool, 3000)
        assert stats(pool)["spilled"] > before
    if pids[0]:
        forked.set()
        thread.join()
        os.write(go, b"g")
    both_go_on(pids, pool, child)
    for fd in (go_on, go):
        os.close(fd)


def test_a_fork_between_spills(pool, kind):
    """Several children, each a spiller of its own beside its parent."""
    children = []
    for turn in range(3):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                use(pool, 5000 + turn * 1000)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
        use(pool, 9000 + turn * 1000)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert_sound(pool.engine)
