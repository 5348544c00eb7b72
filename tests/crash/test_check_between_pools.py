"""Owns the rule that what no pool links is not judged by one: pages in limbo, retired and staged,
whatever pools there are by now."""
import os
import signal

import pytest

import engine

PAGE = 4096


def text(n):
    return b"compressible %d " % n * 200


def kill_in(name, act, point, pool):
    """Run act(pool) in a process that dies at this kill point of it. False: it came through."""
    pid = os.fork()
    if pid == 0:
        try:
            mine = engine.attach(name)
            opened = mine.pool(pool)
            mine.set_kill_point(point)
            act(opened)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def sound(eng):
    report = eng.check()
    assert report.ok, [str(problem) for problem in report.problems[:3]]
    return report


def test_a_compressed_page_in_limbo_beside_a_pool_without_a_codec(make_arena):
    """The viewer dies with its pin set; until somebody buries it, its page is in limbo."""
    eng = make_arena(capacity="4MiB", page_size=PAGE, max_pools=4, buckets=1)
    pool = eng.new_pool("z", pam="lz4", persistent=True)
    eng.new_pool("raw")
    waited = 0
    for point in range(1, 100):
        assert pool.put((1, 0, 0), 0, text(point))
        if not kill_in(eng.name, lambda opened: opened.view((1, 0, 0), 0), point, "z"):
            break
        assert pool.flush_page((1, 0, 0), 0)
        waited += sound(eng).counts["limbo"]
    assert waited > 0


class Tokens:
    """A back end that keeps nothing."""

    def create(self, pool_id, oid, index, data):
        return index + 1

    def get_data(self, pool_id, oid, index, token):
        return b"page"

    get_data_and_free = get_data

    def free(self, pool_id, oid, index, token):
        pass

    new_obj = free_obj = lambda self, pool_id, oid: None

    def is_remote(self, token):
        return False

    def replace_in_obj(self, pool_id, oid, index, old, new):
        return True


@pytest.mark.parametrize("pam", ["tokens", "lz4"])
def test_what_a_dead_worker_had_retired_beside_a_later_pool_of_its_slot(make_arena, pam):
    """An object is flushed by a worker that dies before it is taken apart; its pool goes, and
    another comes, before an heir is through."""
    engine.register_pam("tokens", Tokens)
    eng = make_arena(capacity="4MiB", page_size=PAGE, max_pools=1)
    seen = 0
    for point in range(1, 400, 7):
        pool = eng.new_pool("p", pam=pam)
        for index in range(70):
            assert pool.put((1, 0, 0), index, text(index))
        heir = engine.attach(eng.name)
        died = kill_in(eng.name, lambda opened: opened.flush_object((1, 0, 0)), point, "p")
        heir.recover()              # it has the lists now, and does nothing more
        pool.destroy()
        later = eng.new_pool("later")
        assert later.put((1, 0, 0), 0, text(1))
        sound(eng)
        seen += died
        heir.close()
        sound(eng)
        later.destroy()
        if not died:
            break
    assert seen > 20
