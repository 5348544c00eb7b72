"""Owns the finest enumeration: a worker killed at any machine instruction of a verb leaves the
state before or the state after.

test_kill_points.py kills between the steps that the source names. Here the processor's own steps
are taken, so that neither the compiler's order of the stores nor a half-done copy is left out. Not
visited are instructions that run outside of the compiled modules and of what these call in the C
library: they are the interpreter's, which has no business in an arena.

The suite visits every STRIDE-th instruction of a verb. All of them, in a few minutes:
EVERY_INSTRUCTION=1 in the environment.
"""
import itertools
import os
import signal
import time

import pytest

import engine
from tests.crash import stepping
from tests.support import page

STRIDE = 251
PAGE = 512
TOUCHED, NEIGHBOUR, NEW, OTHER, VALUE = (1, 0, 0), (2, 0, 0), (3, 0, 0), (4, 0, 0), (5, 0, 0)
OIDS = (TOUCHED, NEIGHBOUR, NEW, OTHER, VALUE)
INDEXES = (0, 1, 2, 3, 70)
# Made once: the copy of a page has the same instructions in every child only if it starts at the
# same address.
OLD = {
    (oid, index): page(oid[0] << 8 | index, 100 + 40 * at)
    for oid in (TOUCHED, NEIGHBOUR)
    for at, index in enumerate(INDEXES)
}
OVER, FRESH, RANGE = page(1001, 300), page(1002, 200), page(1003, 3 * PAGE)
ALIKE = page(1006, len(OLD[TOUCHED, 1]) + 8)        # of the same size class: these exchange their chunks
WHOLE, WHOLE_OVER = page(1004, PAGE), page(1005, PAGE)
COUNT, WITH = page(1007, 8), {"key": b"a key", "word": 2**63, "ttl": 5000}
GAUGES = ("objects", "objnodes", "pages", "bytes_asked", "bytes_used", "bytes_stored")
_numbers = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _can_step():
    why = stepping.why_not()
    if why:
        pytest.skip(why)


class Scene:
    """A small arena with one pool of two objects; with `full`, no memory left in it."""

    def __init__(self, prefix, full=False):
        self.name = f"{prefix}{next(_numbers)}"
        self.engine = engine.create(self.name, "1MiB", page_size=PAGE, max_workers=4, max_pools=2, buckets=1)
        self.pool = self.engine.new_pool("p", persistent=True)
        for (oid, index), data in OLD.items():
            assert self.pool.put(oid, index, data)
        assert self.pool.put_object(VALUE, COUNT, key=b"k", ttl=9000)
        if full:
            assert self.pool.put(TOUCHED, 1, WHOLE)
            index = 0
            while self.pool.put(OTHER, index, WHOLE):
                index += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.engine.close()
        engine.unlink(self.name)

    def state(self):
        """All that a caller can see: every page there may be, shapes of the objects, gauges."""
        stats = self.engine.stats()["pools"]["p"]
        seen = {name: stats[name] for name in GAUGES}
        for oid in OIDS:
            info = seen[oid] = self.pool.object_info(oid)
            for index in INDEXES:
                seen[oid, index] = self.pool.get(oid, index, free=False)
            if info == (1, 0, 0):           # a page at 0, and no other
                data, of_value = self.pool.get_object(oid, info=True)
                seen[oid, "value"] = data, of_value.key, of_value.word
            seen[oid, "expires"] = info and round((self.pool.expires(oid) or 0), -3)
        return seen

    def sound_state(self):
        """The state after recovery, if all else is as it should be: no lock is stuck, no chunk
        lost, no worker left over."""
        self.engine.recover()
        report = self.engine.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]
        assert self.engine.stats()["arena"]["workers"] == 1
        state = self.state()
        assert self.pool.put(TOUCHED, 0, FRESH) and self.pool.get(TOUCHED, 0, free=True) == FRESH
        for oid in OIDS:
            self.pool.flush_object(oid)
        assert not any(self.engine.stats()["pools"]["p"][name] for name in GAUGES)
        report = self.engine.check()
        assert report.ok, [str(problem) for problem in report.problems[:5]]
        return state


# --- the verbs ------------------------------------------------------------------------------------


def warm(pool):
    """Take a slot, and leave in the magazines whatever a verb of these needs."""
    assert pool.get(NEIGHBOUR, 0)
    for data in (ALIKE, OVER, FRESH, RANGE[:PAGE]):
        assert pool.put(OTHER, 0, data)
    assert pool.put_range(OTHER, 80, RANGE)
    assert pool.flush_object(OTHER)


def cold(pool):
    """Take a slot and no more: the verb has to fill the magazines itself."""
    assert pool.get(NEIGHBOUR, 0)


# What it is -> (how the worker is prepared, the verb, whether the arena is full)
VERBS = {
    "put-over": (warm, lambda pool: pool.put(TOUCHED, 1, OVER), False),
    "put-over-alike": (warm, lambda pool: pool.put(TOUCHED, 1, ALIKE), False),
    "put-over-when-full": (cold, lambda pool: pool.put(TOUCHED, 1, WHOLE_OVER), True),
    "put-new-object": (warm, lambda pool: pool.put(NEW, 70, FRESH), False),
    "put-cold": (cold, lambda pool: pool.put(NEW, 70, FRESH), False),
    "get-exclusive": (warm, lambda pool: pool.get(TOUCHED, 2, True), False),
    "flush-page": (warm, lambda pool: pool.flush_page(TOUCHED, 3), False),
    "flush-object": (warm, lambda pool: pool.flush_object(TOUCHED), False),
    "put-range": (warm, lambda pool: pool.put_range(TOUCHED, 1, RANGE), False),
    # Of a bytes: the pieces of others lie in memory that the C library finds by what it gave out
    # before, in each child by other instructions.
    "put-value-over-pages": (warm, lambda pool: pool.put_object(TOUCHED, OVER, **WITH), False),
    "put-value-over-alike": (warm, lambda pool: pool.put_object(VALUE, ALIKE[:8], **WITH), False),
    "put-value-when-full": (cold, lambda pool: pool.put_object(VALUE, OVER[:8], **WITH), True),
    "incr-new": (warm, lambda pool: pool.incr(NEW, 2, 40, 5000, key=b"a key", word=2**63), False),
    "incr-of-another-key": (warm, lambda pool: pool.incr(VALUE, 2, 40, key=b"a key"), False),
    "incr-when-full": (cold, lambda pool: pool.incr(VALUE, 2, 40, key=b"a key"), True),
    "incr": (warm, lambda pool: pool.incr(VALUE, 2, key=b"k") > 0, False),
    "touch": (warm, lambda pool: pool.touch(VALUE, 5000), False),
}


@pytest.mark.small
@pytest.mark.timeout(1800 if os.environ.get("EVERY_INSTRUCTION") else 120)
@pytest.mark.parametrize("verb", list(VERBS))
def test_killed_at_any_instruction_of_a_verb(arena_name, verb, record_property):
    began = time.monotonic()
    prepare, act, full = VERBS[verb]

    def run(how, *arguments):
        """The state that a worker leaves, and what `how` answers."""
        with Scene(arena_name, full) as scene:
            answer = how(*arguments, lambda: prepare(scene.pool), lambda: act(scene.pool))
            return scene.sound_state(), answer

    with Scene(arena_name, full) as scene:
        before = scene.state()
        assert act(scene.pool)
    after, places = run(stepping.trace)
    assert after != before and len(places) > 200

    offset, stride = (0, 1) if os.environ.get("EVERY_INSTRUCTION") else (list(VERBS).index(verb) % STRIDE, STRIDE)
    chosen = sorted({0, len(places) - 1, *range(offset, len(places), stride)})
    count = {"before": 0, "after": 0}
    for k in chosen:
        where = f"{verb}, killed before instruction {k} of {len(places)}, {stepping.name_of(places[k].rip)}"
        try:
            state, _ = run(stepping.die_at, places[k])
        except Exception as error:
            error.add_note(where)
            raise
        if state not in (before, after):
            different = {key: (before.get(key), state.get(key), after.get(key)) for key in set(before) | set(state)
                         if before.get(key) != state.get(key)}
            raise AssertionError(f"{where}: neither before nor after (before, is, after): {different}")
        outcome = "before" if state == before else "after"
        assert outcome == "after" or not count["after"], f"{where}: before again, when it had been after"
        count[outcome] += 1
    assert all(count.values()), count
    # The same call has the same instructions to the end, or some of them would have been left out.
    assert run(stepping.trace)[1] == places
    text = f"{len(chosen)} of {len(places)} instructions, {count['before']} before and {count['after']} after"
    record_property("instructions", text)
    print(f"{verb}: {text}, {time.monotonic() - began:.1f} s")


# --- leases ---------------------------------------------------------------------------------------


def _held_by_the_dead(eng):
    pid = os.fork()
    if pid == 0:
        try:
            eng.lease(NEW).acquire()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)


# What it is -> (what comes before, in the worker that is killed; the call)
LEASES = {
    "take": (lambda lease: lease.locked(), lambda lease: lease.acquire(timeout=0)),
    "take-over": (
        lambda lease: (lease.locked(), _held_by_the_dead(lease.engine)), lambda lease: lease.acquire(timeout=0)
    ),
    "give": (lambda lease: lease.acquire(timeout=0), lambda lease: lease.release()),
}


@pytest.mark.small
@pytest.mark.timeout(1800 if os.environ.get("EVERY_INSTRUCTION") else 120)
@pytest.mark.parametrize("call", list(LEASES))
def test_killed_at_any_instruction_of_a_lease(arena_name, call, record_property):
    """Whoever comes next has it at once, and nobody else's is touched."""
    prepare, act = LEASES[call]
    with engine.create(arena_name, "1MiB", page_size=PAGE, max_workers=4, max_pools=2, buckets=1) as eng:
        lease, other = eng.lease(NEW), eng.lease(OTHER)
        assert other.acquire(timeout=0)
        with lease:
            pass

        def run(how, *arguments):
            answer = how(*arguments, lambda: prepare(lease), lambda: act(lease))
            assert lease.acquire(timeout=0) and other.mine()
            lease.release()
            eng.recover()
            report = eng.check()
            assert report.ok and report.counts["leases"] == 1, [str(problem) for problem in report.problems]
            return answer

        places = run(stepping.trace)
        assert len(places) > 100
        stride = 1 if os.environ.get("EVERY_INSTRUCTION") else 29
        for k in sorted({0, len(places) - 1, *range(list(LEASES).index(call), len(places), stride)}):
            try:
                run(stepping.die_at, places[k])
            except Exception as error:
                error.add_note(f"{call}, killed before instruction {k} of {len(places)}, "
                               f"{stepping.name_of(places[k].rip)}")
                raise
        record_property("instructions", len(places))
        print(f"{call}: {len(places)} instructions")
