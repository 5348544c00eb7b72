"""Owns what a persistent pool promises of pages on servers, through what befalls clusters: the
exact bytes, or one of two errors; never None, never others' bytes.
"""
import pytest

import engine
from tests.contract.fars import assert_sound, content, get, stats
from tests.servers.conftest import needs
from tests.servers.pools import PAGES, make
from tests.servers.servers import Servers, until
from tests.servers.test_outages import offset


@pytest.fixture
def replicated(tmp_path):
    """Three masters, with a replica each."""
    needs()
    with Servers(tmp_path, 3, 1) as servers:
        yield servers


def fill_kept(pool, pages=PAGES, start=0):
    """Put so many pages; each is taken once those before it have left."""
    for n in range(start, start + pages):
        until(lambda n=n: pool.put((n // 16, 0, 0), n % 16, content(n)) or pool.engine.spill() and False, "a put")
        if n % 32 == 31:
            pool.engine.spill()


def answers(pool, pages=PAGES):
    """How many are had, not to be had now, and lost."""
    found = [0, 0, 0]
    for n in range(pages):
        try:
            page = get(pool, n)
            assert page == content(n)
            found[0] += 1
        except engine.FarUnavailable:
            found[1] += 1
        except engine.FarLost:
            found[2] += 1
    return found


def keep(make_arena, servers, **said):
    pool = make(make_arena, servers.target(wait=1, **said), persistent=True, far_persistent=True, localify=False)
    fill_kept(pool)
    assert stats(pool)["far_pages"] > 100
    # Where others have the processor a node may have been late.
    ahead = iter(range(60, 10**6, 60))
    until(lambda: answers(pool) == [PAGES, 0, 0] or pool.engine.set_clock_ahead(next(ahead)), "all are there")
    pool.engine.set_clock_ahead(0)
    return pool


def test_only_what_replicas_have_leaves(make_arena, cluster, any_client):
    """Nobody follows these masters: nothing leaves, and a full arena refuses."""
    arena = make_arena(capacity="3MiB", page_size=4096, huge_pages=False)
    with pytest.raises(ValueError, match="wait"):
        arena.new_pool("q", persistent=True, far_persistent=True, far=cluster.target(client=any_client))
    pool = arena.new_pool("p", persistent=True, far_persistent=True,
                          far=cluster.target(client=any_client, wait=1, timeout="100ms"))
    taken = [n for n in range(PAGES) if pool.put((n, 0, 0), 0, content(n))]
    assert 100 < len(taken) < PAGES and arena.spill() == 0 and stats(pool)["far_pages"] == 0
    assert [n for n in range(PAGES) if pool.get((n, 0, 0), 0) == content(n)] == taken


def test_a_node_that_is_killed_and_its_replica(make_arena, replicated, client):
    """Unavailable while nobody has the slots; then the replica has them, and all of the pages."""
    pool = keep(make_arena, replicated, client=client, timeout="150ms")
    master, heir = replicated.masters[0], replicated.replicas[0]
    heir.ask("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    master.kill()
    had, away, lost = answers(pool)
    assert away > 20 and lost == 0 and had + away == PAGES
    with pytest.raises(engine.FarUnavailable) as told:
        pool.get_many([((n // 16, 0, 0), n % 16) for n in range(64)])
    assert [page for n, page in enumerate(told.value.pages) if page not in (None, content(n))] == []
    heir.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    ahead = iter(range(60, 10**6, 60))
    until(lambda: answers(pool) == [PAGES, 0, 0] or pool.engine.set_clock_ahead(next(ahead)), "the heir has all")
    assert stats(pool)["far_lost"] == 0
    assert_sound(pool.engine)


def test_a_replica_that_lags_takes_over(make_arena, replicated, any_client):
    """What it did not hear of was not acknowledged: those pages have not left."""
    pool = keep(make_arena, replicated, client=any_client, timeout="150ms")
    master, heir = replicated.masters[0], replicated.replicas[0]
    until(lambda: offset(replicated, heir, "slave") == offset(replicated, master, "master"), "it has all")
    heir.stop()
    for n in range(PAGES, PAGES + 200):     # the other two take what is theirs
        if n % 32 == 31:
            pool.engine.spill()
        pool.put((n // 16, 0, 0), n % 16, content(n))
    master.kill()
    heir.go_on()
    heir.ask("CLUSTER", "FAILOVER", "TAKEOVER")
    ahead = iter(range(60, 10**6, 60))
    until(lambda: answers(pool) == [PAGES, 0, 0] or pool.engine.set_clock_ahead(next(ahead)), "nothing is lost")
    assert_sound(pool.engine)


def test_a_cluster_that_is_flushed_has_lost_them_and_says_so(make_arena, replicated, any_client):
    pool = keep(make_arena, replicated, client=any_client)
    far = stats(pool)["far_pages"]
    for server in replicated.masters:
        server.ask("FLUSHALL")
    assert answers(pool) == [PAGES - far, 0, far] and answers(pool) == [PAGES - far, 0, far]
    assert stats(pool)["far_pages"] == far
    report = pool.engine.check()
    assert report.ok and report.counts["far_lost"] == far
    lost = next(n for n in range(PAGES) if is_lost(pool, n))
    assert pool.flush_page((lost // 16, 0, 0), lost % 16) and get(pool, lost) is None
    assert_sound(pool.engine)


def is_lost(pool, n):
    try:
        get(pool, n)
        return False
    except engine.FarLost:
        return True
