"""Owns what an engine that acts for a client may do, in which processes it does so, and lists of
clients that a pool lets in."""
import multiprocessing
import os
import pickle

import pytest

import engine
from engine.eviction.policies import POLICIES
from tests.hostile.structs import Map, offset
from tests.support import SHM

METHODS = ("spawn", "fork", "forkserver")
OID = (1, 2, 3)
POOLS = {
    "own-private": dict(client=5, shared=False),
    "own-shared": dict(client=5),
    "own-for-7": dict(client=5, allow=[7]),
    "own-persistent": dict(client=5, persistent=True, shared=False),
    "shared": dict(client=6),
    "shared-for-5": dict(client=6, allow=[4, 5]),
    "hosts": {},
    "private": dict(client=6, shared=False),
    "shared-for-7": dict(client=6, allow=[7]),
    "hosts-private": dict(shared=False),
}
CLOSED = ("private", "shared-for-7", "hosts-private")
OPEN = [name for name in POOLS if name not in CLOSED]


@pytest.fixture
def pools(eng):
    """The host's: pools of clients 0, 5 and 6, each with a page."""
    made = {name: eng.new_pool(name, **how) for name, how in POOLS.items()}
    assert all(pool.put(OID, 0, name.encode()) for name, pool in made.items())
    return made


@pytest.fixture
def five(eng):
    """Another engine on the arena, which acts for client 5."""
    with engine.attach(eng.name, client=5) as attached:
        yield attached


# --- whom an engine acts for ----------------------------------------------------------------------


def test_an_engine_tells_for_whom_it_acts(eng, five, arena_name):
    assert eng.client_id is None and five.client_id == 5
    assert "for client 5" in repr(five) and "client" not in repr(eng)
    with engine.attach(eng.name, 0) as first, engine.attach(eng.name, client=2**32 - 1) as last:
        assert (first.client_id, last.client_id) == (0, 2**32 - 1)


def test_a_creator_may_act_for_a_client(make_arena):
    eng = make_arena(client=9)
    assert eng.client_id == 9 and eng.new_pool("p").client == 9


@pytest.mark.parametrize(
    ("value", "error"), [("5", TypeError), (5.0, TypeError), (True, TypeError), (-1, ValueError), (2**32, ValueError)]
)
def test_a_client_is_a_number(eng, arena_name, value, error):
    calls = [lambda: engine.attach(eng.name, client=value), lambda: engine.create(arena_name + "x", client=value),
             lambda: eng.spawn(1, print, client=value), lambda: eng.new_pool("p", client=value)]
    for call in calls:
        with pytest.raises(error, match=r"\bclient\b"):
            call()
    with pytest.raises(engine.ArenaNotFound):
        engine.attach(arena_name + "x")
    assert eng.pools() == [] and eng.stats()["arena"]["workers"] == 1


# --- what it may do -------------------------------------------------------------------------------


def test_it_makes_pools_of_its_client(five):
    assert five.new_pool("p").client == five.new_pool("q", client=5).client == 5
    for other in (0, 6):
        with pytest.raises(engine.AccessDenied, match=f"client 5, not for {other}"):
            five.new_pool("r", client=other)
    assert [pool.name for pool in five.pools()] == ["p", "q"]


def test_it_opens_what_is_its_own_or_lets_it_in(pools, five):
    assert [pool.name for pool in five.pools()] == OPEN
    for name in OPEN:
        for key in (name, pools[name].id):
            found = five.pool(key)
            assert found.get(OID, 0, free=False) == name.encode() and found.put(OID, 1, b"x")
    for name in CLOSED:
        for key in (name, pools[name].id):
            with pytest.raises(engine.AccessDenied, match=f"'{name}'.*client 5"):
                five.pool(key)
        with pytest.raises(engine.PoolExists):
            five.new_pool(name)
    with pytest.raises(engine.PoolNotFound):
        five.pool("nobody's")


def test_it_destroys_only_what_is_its_own(eng, pools, five):
    for name in OPEN:
        pool = five.pool(name)
        if name.startswith("own"):
            pool.destroy()
        else:
            with pytest.raises(engine.AccessDenied, match=f"destroy pool '{name}'"):
                pool.destroy()
            assert pools[name].get(OID, 0, free=False) == name.encode()
    for name in CLOSED:
        pools[name].destroy()
    assert [pool.name for pool in eng.pools()] == [name for name in OPEN if not name.startswith("own")]
    assert eng.check().ok


def test_weights_caps_and_freezing_are_the_hosts(eng, five):
    eng.client(5, weight=3, cap=100)
    for client in (five.client(5), five.client(6)):
        for call in (client.freeze, client.thaw):
            with pytest.raises(engine.AccessDenied, match="host"):
                call()
        for setting in (dict(weight=2), dict(cap=0), dict(weight=2, cap=2)):
            with pytest.raises(engine.AccessDenied, match="host"):
                five.client(client.id, **setting)
    found = five.client(5)
    assert (found.weight, found.cap, found.frozen) == (3, 100, False)
    assert (five.client(6).weight, five.client(6).cap) == (1, 0)


def test_it_sees_the_whole_arena(eng, pools, five):
    assert set(five.stats()["pools"]) == set(POOLS)
    assert five.check().ok and five.check(repair=True).ok and five.recover() == 0


# --- lists of clients -----------------------------------------------------------------------------


def test_a_pool_tells_with_what_it_was_made(eng):
    plain = eng.new_pool("plain")
    assert (plain.policy, plain.cap, plain.allow) == ("s3fifo", 0, None)
    for policy in POLICIES:
        made = eng.new_pool(policy, policy=policy, cap=77, allow=(9, 3, 9, 0, 2**32 - 1))
        for pool in (made, eng.pool(policy), pickle.loads(pickle.dumps(made))):
            assert (pool.policy, pool.cap, pool.allow) == (policy, 77, (9, 3, 0, 2**32 - 1))


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32])
def test_every_client_of_a_list_is_let_in_and_no_other(eng, count):
    ids = [1000 + 3 * n for n in range(count)]
    pool = eng.new_pool("p", client=1, allow=iter(ids))
    assert pool.allow == tuple(ids) and pool.put(OID, 0, b"x")
    with engine.attach(eng.name, client=1) as owner:
        assert owner.pool("p").get(OID, 0) == b"x"
    for client in ids:
        with engine.attach(eng.name, client=client) as one:
            assert one.pool("p").get(OID, 0) == b"x"
    for client in (0, 2, ids[0] - 1, ids[-1] + 1, ids[-1] << 20):
        with engine.attach(eng.name, client=client) as one, pytest.raises(engine.AccessDenied):
            one.pool("p")


def test_a_list_ends_with_its_pool(eng, five):
    first = eng.new_pool("first", allow=range(100, 132))
    first.destroy()
    second = eng.new_pool("second")
    assert second.id == first.id and second.allow is None and five.pool("second").allow is None


@pytest.mark.parametrize(
    ("allow", "error"),
    [
        (5, TypeError),
        ("5", TypeError),
        (b"5", TypeError),
        (["5"], TypeError),
        ([None], TypeError),
        ([True], TypeError),
        ([1.0], TypeError),
        ([], ValueError),
        ([-1], ValueError),
        ([2**32], ValueError),
        (range(33), ValueError),
    ],
)
def test_a_list_is_of_1_to_32_clients(eng, allow, error):
    with pytest.raises(error, match=r"\ballow\b"):
        eng.new_pool("p", allow=allow)
    assert eng.pools() == []


def test_a_private_pool_has_no_list(eng):
    with pytest.raises(ValueError, match="allow: .*shared"):
        eng.new_pool("p", shared=False, allow=[1])


@pytest.mark.parametrize("count", [33, 2**32, 2**64 - 1])
def test_a_damaged_count_is_cut_to_the_room_there_is(eng, count):
    pool = eng.new_pool("p", allow=[7, 8])
    with open(SHM / eng.name, "r+b", buffering=0) as file:
        record = Map(file.read(4096)).record(pool.id)
        file.seek(record + offset("PoolRecord", "allow_count"))
        file.write(count.to_bytes(8, "little"))
    assert eng.pool("p").allow == (7, 8) + (0,) * 30
    with engine.attach(eng.name, client=5) as five, pytest.raises(engine.AccessDenied):
        five.pool("p")
    assert {problem.id for problem in eng.check().problems} == {"pool-allow"}
    assert eng.check(repair=True).ok and eng.pool("p").put(OID, 0, b"x")


# --- other processes ------------------------------------------------------------------------------


def denied(call, *arguments):
    try:
        call(*arguments)
    except engine.AccessDenied:
        return True
    return False


def act(eng, pools, client):
    """In a worker: it acts for `client`, with the pools it was handed as well as with those it
    opens."""
    assert eng.client_id == client
    for name, pool in pools.items():
        assert denied(pool.get, OID, 0, False) == denied(eng.pool, name) == (name in CLOSED), name
    assert denied(eng.new_pool, "new", True, True, 6)
    assert eng.new_pool(f"made by {os.getpid()}").client == client


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_client_of_their_own(eng, pools, method):
    with eng.spawn(2, act, eng, pools, 5, method=method, client=5) as crew:
        pass
    assert crew.exitcodes == [0, 0]
    assert eng.client_id is None and pools["private"].get(OID, 0, free=False) == b"private"
    assert [eng.pool(f"made by {process.pid}").client for process in crew] == [5, 5]


@pytest.mark.parametrize("method", METHODS)
def test_workers_act_for_whom_their_engine_acts(five, pools, method):
    mine = {name: five.pool(name) for name in OPEN}
    with five.spawn(1, act, five, mine, 5, method=method) as crew:
        pass
    assert crew.exitcodes == [0]
    with pytest.raises(engine.AccessDenied, match="client 5, not for 6"):
        five.spawn(1, act, five, mine, 6, client=6)


@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(five, pools, method):
    mine = {name: five.pool(name) for name in OPEN}
    process = multiprocessing.get_context(method).Process(target=act, args=(five, mine, 5))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_engines_and_pools_pickle_with_their_client(five, pools):
    again, own = pickle.loads(pickle.dumps((five, five.pool("own-private"))))
    assert again.client_id == 5 and own.engine.client_id == 5 and again.worker_id != five.worker_id
    assert own.get(OID, 0, free=False) == b"own-private"
    again.close()


def test_a_pool_that_its_engine_may_not_use_does_not_unpickle(eng, pools):
    five = engine.attach(eng.name, client=5)
    make, (_, *which) = pools["private"].__reduce__()
    with pytest.raises(engine.AccessDenied, match="'private'"):
        make(five, *which)
    assert make(five, *pools["shared"].__reduce__()[1][1:]).name == "shared"
    pools["private"].destroy()
    eng.new_pool("again", client=6, shared=False)
    with pytest.raises(engine.PoolDestroyed):
        make(five, *which)
    five.close()


def test_a_forked_child_acts_for_the_same_client(five, pools):
    mine = {name: five.pool(name) for name in OPEN}
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act(five, mine, 5)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
