"""Owns what an outage of servers is to a pool: a miss within a bounded time, of the pages that are
there, and of no others; never another's bytes, nor old ones. How long is in the benchmark; here is
how many calls have to wait.
"""
import contextlib
import os
import random
import signal
import subprocess

import pytest

import engine
from tests.contract.fars import assert_sound, content, fill, get, stats
from tests.servers.conftest import needs
from tests.servers.pools import PAGES, answers, assert_all_there, make
from tests.servers.servers import Servers, until
from tests.stopped import fork

TIMEOUT = "100ms"
MOVED = 1500 if os.environ.get("EVERY_POINT") else 250      # slots


def node(pool, server):
    """What is known of a server."""
    return next(row for row in pool.far_nodes if row["address"] == server.address)


ahead = iter(range(60, 10**6, 60))


def pass_time(eng):
    """Let this process's clock be ahead by another minute: breakers are half open then."""
    eng.set_clock_ahead(next(ahead))


@pytest.mark.parametrize("outage", ["killed", "stopped"])
def test_one_node_of_three(make_arena, cluster, client, outage):
    pool = make(make_arena, cluster.target(client=client, timeout=TIMEOUT))
    fill(pool, PAGES)
    ill = cluster.masters[1]
    ill.kill() if outage == "killed" else ill.stop()
    had = answers(pool)
    assert PAGES * .6 < had < PAGES     # a third of what is far, and nothing else
    said = stats(pool)
    assert said["far_failed"] == PAGES - had and said["far_misses_gone"] == 0
    row = node(pool, ill)
    # The first call waits, and hardly another; a page that two nodes are asked for is none.
    assert row["opened"] == 1 and 1 <= row["failed"] + row["late"] <= 12 and row["open_for"] > 0
    assert all(node(pool, other)["opened"] == 0 for other in cluster.masters if other is not ill)
    if outage == "stopped":
        ill.go_on()
        until(lambda: get_all(pool) or pass_time(pool.engine), "it is asked again")
        assert_all_there(pool)
    assert_sound(pool.engine)


def get_all(pool):
    return answers(pool) == PAGES


def test_eight_workers_wait_once(make_arena, cluster, any_client):
    """One worker's wait spares all the others."""
    pool = make(make_arena, cluster.target(client=any_client, timeout=TIMEOUT))
    fill(pool, PAGES)
    ill = cluster.masters[0]
    ill.stop()

    def worker(seed):
        mine = engine.attach(pool.engine.name).pool("p")
        rnd = random.Random(seed)
        for _ in range(150):
            n = rnd.randrange(PAGES)
            assert get(mine, n) in (None, content(n))
    pids = [fork(worker, seed) for seed in range(8)]
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    row = node(pool, ill)
    # Eight may be on their way at once before the first has waited; then one tries now and then.
    assert 1 <= row["late"] + row["failed"] <= 24, row


def test_spilling_goes_on_while_a_node_is_away(make_arena, cluster, any_client):
    pool = make(make_arena, cluster.target(client=any_client, timeout=TIMEOUT))
    cluster.masters[2].stop()
    for n in range(PAGES):
        assert pool.put((n // 16, 0, 0), n % 16, content(n))
        if n % 32 == 31:
            pool.engine.spill()
    assert stats(pool)["far_pages"] > 100 and answers(pool) > PAGES // 2
    cluster.masters[2].go_on()
    assert_sound(pool.engine)


def test_a_server_that_comes_later(make_arena, tmp_path, client):
    """Who opens a pool while nobody answers is told so, and has its pages as soon as there is
    somebody."""
    needs()
    with Servers(tmp_path, 1, cluster=False) as servers:
        pool = make(make_arena, servers.target(client=client, timeout=TIMEOUT))
        fill(pool, PAGES)
        servers.all[0].stop()
        with engine.attach(pool.engine.name) as other:
            late = other.pool("p")
            assert late.far_trouble
            assert 0 < answers(late) < PAGES
            servers.all[0].go_on()
            other.set_clock_ahead(60)
            until(lambda: answers(late) == PAGES, "the pages are there")
            assert late.far_trouble is None


def test_a_pool_cannot_be_made_where_nobody_listens(make_arena, client):
    arena = make_arena(capacity="3MiB", huge_pages=False)
    with pytest.raises(engine.TmemError, match="far: no server"):
        arena.new_pool("p", far=f"valkey://127.0.0.1:1?client={client}")
    assert not arena.pools()


# --- what a cluster loses -------------------------------------------------------------------------


def test_a_cluster_that_is_flushed(make_arena, cluster, any_client):
    pool = make(make_arena, cluster.target(client=any_client))
    fill(pool, PAGES)
    far = stats(pool)["far_pages"]
    for server in cluster.masters:
        server.ask("FLUSHALL")
    answers(pool)
    said = stats(pool)
    assert said["far_misses_gone"] > far // 2 and said["checksum_bad"] == 0
    fill(pool, PAGES)                                   # and goes on
    assert_sound(pool.engine)


def test_a_node_that_is_full_refuses_and_pages_stay(make_arena, tmp_path, any_client):
    needs()
    with Servers(tmp_path, more=("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")) as servers:
        pool = make(make_arena, servers.target(client=any_client))
        for n in range(4 * PAGES):
            assert pool.put((n // 16, 0, 0), n % 16, content(n))
            if n % 32 == 31:
                pool.engine.spill()
        rows = pool.far_nodes
        assert sum(row["refused"] for row in rows) > 0 and all(row["opened"] == 0 for row in rows)
        answers(pool, 4 * PAGES)
        assert stats(pool)["far_misses_gone"] == 0      # what it has taken it has
        assert_sound(pool.engine)


def test_a_node_that_evicts_gives_misses(make_arena, tmp_path, any_client):
    needs()
    with Servers(tmp_path, more=("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")) as servers:
        pool = make(make_arena, servers.target(client=any_client))
        fill(pool, 3 * PAGES)
        answers(pool, 3 * PAGES)
        assert stats(pool)["far_misses_gone"] > 0
        assert_sound(pool.engine)


def test_a_failover_to_a_replica_that_lags(make_arena, tmp_path, client):
    """Pages that the replica had are there, the others are misses."""
    needs()
    with Servers(tmp_path, 3, 1) as servers:
        pool = make(make_arena, servers.target(client=client, timeout=TIMEOUT))
        fill(pool, PAGES)
        heir, master = servers.replicas[0], servers.masters[0]
        until(lambda: offset(servers, heir, "slave") == offset(servers, master, "master"), "it has all")
        heir.stop()
        fill(pool, PAGES, start=20000)                  # that one does not hear of
        master.kill()
        heir.go_on()
        heir.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        until(lambda: "role:master" in servers.info(heir, "replication"), "the replica is the master")
        pool.engine.set_clock_ahead(60)
        until(lambda: answers_of_far(pool), "the client has followed")
        assert_sound(pool.engine)


def offset(servers, server, whose):
    return next(line for line in servers.info(server, "replication").splitlines()
                if line.startswith(f"{whose}_repl_offset")).partition(":")[2]


def answers_of_far(pool):
    """True if no node leaves us without an answer."""
    before = stats(pool)["far_failed"]
    answers(pool)
    pool.engine.set_clock_ahead(before)     # ever later: no breaker is in the way
    return stats(pool)["far_failed"] == before


# --- slots on the move ----------------------------------------------------------------------------


def move_slots(source, target, slots):
    """Move slots from one master to another, key by key."""
    here, there = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
    with contextlib.closing(source.client()) as source_client, contextlib.closing(target.client()) as target_client:
        for slot in slots:
            target_client.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", here)
            source_client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", there)
            while keys := source_client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                source_client.execute_command("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys)
            for client in (target_client, source_client):
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", there)


def test_slots_that_move_under_load(make_arena, cluster, client):
    """No page is lost, nor wrong, while a part of the slots goes to another node and back."""
    pool = make(make_arena, cluster.target(client=client, timeout="2s"))
    fill(pool, PAGES)
    one, two = cluster.masters[:2]

    def mover():
        move_slots(one, two, range(MOVED))
        move_slots(two, one, range(MOVED))
    pid = fork(mover)
    rounds = 0
    while os.waitpid(pid, os.WNOHANG)[0] == 0 or rounds < 2:
        rounds += 1
        answers(pool)
        if rounds > 1 and not alive(pid):
            break
    answers(pool)
    said = stats(pool)
    assert said["far_misses_gone"] == 0 and said["checksum_bad"] == 0
    until(lambda: get_all(pool), "all are there")
    assert_sound(pool.engine)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- a network that is cut ------------------------------------------------------------------------


@contextlib.contextmanager
def networks(count, tag):
    """Network namespaces behind one bridge: (how a program is started in each, its address, how it
    is cut off)."""
    def ip(*args):
        subprocess.run(["ip", *args], check=True, capture_output=True)
    bridge = f"tb{tag}"
    made = []
    try:
        ip("link", "add", bridge, "type", "bridge")
        ip("addr", "add", f"10.213.{tag % 250}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for i in range(count):
            space, near, far = f"tn{tag}-{i}", f"tv{tag}-{i}", f"tw{tag}-{i}"
            ip("netns", "add", space)
            made.append(space)
            ip("link", "add", near, "type", "veth", "peer", "name", far)
            ip("link", "set", far, "netns", space)
            ip("link", "set", near, "master", bridge)
            ip("link", "set", near, "up")
            ip("-n", space, "addr", "add", f"10.213.{tag % 250}.{10 + i}/24", "dev", far)
            ip("-n", space, "link", "set", far, "up")
            ip("-n", space, "link", "set", "lo", "up")
        yield [(("ip", "netns", "exec", space), f"10.213.{tag % 250}.{10 + i}",
                lambda state, i=i: ip("link", "set", f"tv{tag}-{i}", state)) for i, space in enumerate(made)]
    finally:
        for space in made:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


def test_a_node_that_is_cut_off(make_arena, tmp_path, any_client):
    needs()
    with contextlib.ExitStack() as stack:
        try:
            spaces = stack.enter_context(networks(3, os.getpid() % 10**6))
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs root, and network namespaces")
        servers = stack.enter_context(Servers(tmp_path, hosts=[address for _, address, _ in spaces],
                                              prefixes=[prefix for prefix, _, _ in spaces]))
        pool = make(make_arena, servers.target(client=any_client, timeout=TIMEOUT))
        fill(pool, PAGES)
        cut = spaces[1][2]
        cut("down")
        had = answers(pool)
        assert PAGES * .6 < had < PAGES and stats(pool)["far_misses_gone"] == 0
        assert node(pool, servers.masters[1])["opened"] == 1
        cut("up")
        pool.engine.set_clock_ahead(60)
        until(lambda: get_all(pool), "all are there again")
        assert_sound(pool.engine)


# --- poison, garbage, kills -----------------------------------------------------------------------


def test_what_somebody_has_put_there_is_a_miss(make_arena, cluster, any_client):
    pool = make(make_arena, cluster.target(client=any_client))
    fill(pool, PAGES)
    names = cluster.names()
    others = list(names)
    for i, (name, server) in enumerate(names.items()):
        if i % 3 == 0:
            server.ask("SET", name, b"what is it")
        elif i % 3 == 1:
            server.ask("SETRANGE", name, 7, b"!")
        else:
            server.ask("SET", name, names[others[i - 1]].ask("GET", others[i - 1]))
    had = answers(pool)
    assert had <= PAGES - len(names) // 2 and stats(pool)["checksum_bad"] == stats(pool)["far_misses_gone"]
    assert_sound(pool.engine)


def test_garbage_is_found(make_arena, cluster, client):
    """Names that a killed spiller has left, and that nobody has; and no others."""
    pool = make(make_arena, cluster.target(client=client))
    fill(pool, PAGES)
    name = next(iter(cluster.names()))
    nonce = name.split(b":")[1]
    for i in range(50):
        stray = b"tmem:%s:%016x" % (nonce, 2**60 + i)
        put_anywhere(cluster, stray)
    foreign = b"tmem:%s:%016x" % (b"0" * 16, 7)
    put_anywhere(cluster, foreign)
    done = pool.engine.far_gc()
    assert done.dropped >= 50 and done.silent == ()
    names = cluster.names()
    assert foreign in names and len(names) - 1 == stats(pool)["far_pages"]
    assert pool.engine.far_gc().dropped == 0
    assert_all_there(pool)


def put_anywhere(cluster, key):
    """SET a key at the master that takes it."""
    for server in cluster.masters:
        with contextlib.suppress(Exception):
            server.ask("SET", key, b"x")
            return
    raise AssertionError("nobody takes it")


def test_versions_while_spillers_and_nodes_die(make_arena, cluster, any_client):
    """A storm: puts with versions, flushes and gets, one spiller after the other killed somewhere,
    a node stopped now and then: what is got is what was put last, or nothing."""
    pool = make(make_arena, cluster.target(client=any_client, timeout=TIMEOUT))
    rnd = random.Random(18)
    versions = dict.fromkeys(range(PAGES))
    for turn in range(200 if os.environ.get("EVERY_POINT") else 3):
        pid = fork(spiller, pool.engine.name, rnd.randrange(1, 3000))
        ill = cluster.masters[turn % 3] if turn % 2 else None
        if ill:
            ill.stop()
        for _ in range(300):
            n = rnd.randrange(PAGES)
            handle = (n // 16, 0, 0), n % 16
            act = rnd.random()
            if act < 0.4:
                assert pool.put(*handle, content(n, turn + 1))
                versions[n] = turn + 1
            elif act < 0.45:
                pool.flush_page(*handle)
                versions[n] = None
            else:
                found = pool.get(*handle)
                assert found is None or versions[n] is not None and found == content(n, versions[n])
        if ill:
            ill.go_on()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        pool.engine.recover()
        pool.engine.set_clock_ahead(60 * turn)
    assert_sound(pool.engine)
    until(lambda: pool.engine.far_gc().silent == (), "all nodes answer")
    assert len(cluster.names()) == stats(pool)["far_pages"]


def spiller(name, point):
    mine = engine.attach(name)
    mine.set_kill_point(point)
    while True:
        mine.spill()
