"""Owns races between processes on one object: what every process was answered, and what is there
afterwards, must be what some order of the operations gives. All pairs and triples, many times, and
with EVERY_POINT=1 in the environment more often, released at the same moment.
"""
import contextlib
import itertools
import multiprocessing
import os
import reprlib

import pytest

import engine
from tests.contract.races import (
    OPERATIONS,
    PAGE,
    STARTS,
    Gate,
    observe,
    prepare,
    read_versions,
    serve,
    take_all,
    write_versions,
)
from tests.support import KINDS, ModelPool, page

NAMES = list(OPERATIONS)
CORE = ["put", "put range", "get and keep", "get and take", "take range", "flush page", "flush object"]
OFTEN = 8 if os.environ.get("EVERY_POINT") else 2
RACED_KINDS = ["ephemeral-private", "persistent-shared"]
# Processes that share nothing with this one, as spawned ones do, but without the start of an
# interpreter for each: that takes longer than the races.
SERVED = multiprocessing.get_context("forkserver")
SERVED.set_forkserver_preload(["tests.contract.races"])


@contextlib.contextmanager
def running(*processes):
    """Start processes; at the end all must have ended well. Killed if the test fails before."""
    for process in processes:
        process.start()
    try:
        yield
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.join()


class Racers:
    """Processes that race on pools, `pool` at first, and the judge of what they answer."""

    def __init__(self, pool, parties):
        self.pool = pool
        self.gate = gate = Gate(SERVED, parties)
        ends = [SERVED.Pipe() for _ in range(parties)]
        self.pipes = [mine for mine, _ in ends]
        self.processes = [
            SERVED.Process(target=serve, args=(theirs, gate, me, pool.engine)) for me, (_, theirs) in enumerate(ends)
        ]
        self.races = 0

    def model(self):
        return ModelPool(self.pool.persistent, self.pool.shared, PAGE)

    def allowed(self, names, start):
        """(answers, what is seen afterwards) of every order of the operations."""
        for order in itertools.permutations(range(len(names))):
            model, answers, oid = self.model(), [None] * len(names), (0, 0, 0)
            prepare(model, oid, start)
            for who in order:
                answers[who] = OPERATIONS[names[who]](model, oid, who)
            yield tuple(answers), observe(model, oid)

    def race(self, names, count):
        """Run the operations against each other on `count` objects in each state to start from."""
        self.races += 1
        oids = [(self.races, n, 0) for n in range(count * STARTS)]
        for oid in oids:
            prepare(self.pool, oid, oid[1] % STARTS)
        for pipe, name in zip(self.pipes, names, strict=True):
            pipe.send((name, self.pool, oids))
        answers = [pipe.recv() for pipe in self.pipes]
        allowed = [list(self.allowed(names, start)) for start in range(STARTS)]
        for oid, *told in zip(oids, *answers, strict=True):
            seen = tuple(told), observe(self.pool, oid)
            if seen not in allowed[oid[1] % STARTS]:
                pytest.fail(f"{names} from state {oid[1] % STARTS}, object {oid}: {reprlib.repr(seen)}")
            self.pool.flush_object(oid)

    def stop(self):
        for pipe in self.pipes:
            pipe.send(None)


@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("kind", RACED_KINDS)
def test_every_pair(eng, kind, first):
    racers = Racers(eng.new_pool("p", **KINDS[kind]), 2)
    with running(*racers.processes):
        for second in NAMES[NAMES.index(first):]:
            racers.race((first, second), 8 * OFTEN)
        racers.stop()
    assert eng.check().ok


@pytest.mark.parametrize("first", CORE)
@pytest.mark.parametrize("kind", RACED_KINDS)
def test_every_triple(eng, kind, first):
    racers = Racers(eng.new_pool("p", **KINDS[kind]), 3)
    with running(*racers.processes):
        for rest in itertools.combinations_with_replacement(CORE[CORE.index(first):], 2):
            racers.race((first, *rest), 4 * OFTEN)
        racers.stop()
    assert eng.check().ok


@pytest.mark.parametrize("name", NAMES)
def test_destroy_against_every_operation(eng, name):
    """An answer as before the pool went, or PoolDestroyed; afterwards nothing is left of it."""
    racers = Racers(eng.new_pool("p0", persistent=True), 2)
    with running(*racers.processes):
        for round in range(2):
            destroy_against(racers, name, racers.gate.counts[0] + 50 * round)
            total = eng.stats()["total"]
            assert (total["objects"], total["pages"], total["objnodes"]) == (0, 0, 0)
            assert eng.check().ok
            racers.pool = eng.new_pool(f"p{round + 1}", persistent=True)
        racers.stop()


def destroy_against(racers, name, met):
    """Destroy the pool when the processes have met so often at its objects."""
    oids = [(1, n, 0) for n in range(200)]
    for oid in oids:
        prepare(racers.pool, oid, oid[1] % STARTS)
    for pipe in racers.pipes:
        pipe.send((name, racers.pool, oids))
    # Some operations answer before the pool goes, the rest after.
    while min(racers.gate.counts) < met:
        assert racers.processes[0].is_alive() and racers.processes[1].is_alive()
    racers.pool.destroy()
    for told in [pipe.recv() for pipe in racers.pipes]:
        refused = [isinstance(answer, engine.PoolDestroyed) for answer in told]
        assert refused == sorted(refused), "it answered again after it was destroyed"
        assert not [a for a in told if isinstance(a, Exception) and not isinstance(a, engine.PoolDestroyed)]


@pytest.mark.parametrize(("page_size", "pages", "reads"), [(65536, 1, 6000), (512, 4, 6000), (4096, 64, 1000)])
@pytest.mark.parametrize("writers", [1, 2])
def test_nothing_is_ever_torn(make_arena, writers, page_size, pages, reads):
    """Readers take no lock; what they get is one version all the same."""
    pool = make_arena(page_size=page_size, capacity="64MiB").new_pool("p", persistent=True)
    oid, gate = (1, 2, 3), Gate(SERVED, writers + 1)
    processes = [SERVED.Process(target=write_versions, args=(pool, oid, pages, gate, who)) for who in range(writers)]
    processes.append(SERVED.Process(target=read_versions, args=(pool, oid, pages, gate, writers, reads)))
    with running(*processes):
        pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_taken_once(eng, kind):
    pool, count = eng.new_pool("p", **KINDS[kind]), 3000
    for index in range(count):
        assert pool.put((1, 2, 3), index, page(index, 200))
    ends = [SERVED.Pipe() for _ in range(3)]
    with running(*(SERVED.Process(target=take_all, args=(pool, (1, 2, 3), count, theirs)) for _, theirs in ends)):
        taken = [index for mine, _ in ends for index in mine.recv()]
    assert sorted(taken) == list(range(count)) and pool.obj_count == 0
    assert eng.check().ok
