"""Owns the state machine: any sequence of calls on pools of all four kinds answers as a dictionary
would.

Hypothesis chooses the sequences, the same ones every run, and shrinks one that fails.
"""
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import engine
from tests.property.twin import EDGES, PAGE, Twins
from tests.support import KINDS, SMALL

kinds = st.sampled_from(sorted(KINDS))
vias = st.sampled_from(("pool", "object"))
words = st.sampled_from((0, 1, 2, 2**63, 2**64 - 1))
oids = st.one_of(st.integers(0, 5).map(lambda n: (n, 0, 0)), st.tuples(words, words, words))
indexes = st.one_of(st.integers(0, 130), st.sampled_from(EDGES), st.integers(0, 2**64 - 600))
frees = st.sampled_from((None, True, False))
tags = st.integers(0, 2**64 - 1)
lengths = st.one_of(st.sampled_from((1, 63, 64, 65, PAGE - 1, PAGE)), st.integers(1, PAGE))


class Machine(RuleBasedStateMachine):
    names = None                        # gives the arena of each run its name
    pam = "raw"

    def __init__(self):
        super().__init__()
        self.eng = engine.create(next(self.names), **SMALL)
        self.twins = Twins(self.eng, self.pam)
        self.views = []                 # with the pages they showed

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, tag=tags, length=lengths)
    def put(self, kind, via, oid, index, tag, length):
        self.twins.pools[kind].both("put", via, oid, index, self.twins.content(tag, length))

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, free=frees)
    def get(self, kind, via, oid, index, free):
        self.twins.pools[kind].both("get", via, oid, index, free)

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, free=frees)
    def get_into(self, kind, via, oid, index, free):
        self.twins.pools[kind].get_into(via, oid, index, free)

    @rule(kind=kinds, via=vias, choice=st.randoms(use_true_random=False), verb=st.sampled_from(("get", "flush_page")))
    def use_a_page_that_is_there(self, kind, via, choice, verb):
        twin = self.twins.pools[kind]
        if twin.model.objects:
            oid = choice.choice(sorted(twin.model.objects))
            twin.both(verb, via, oid, choice.choice(sorted(twin.model.objects[oid])))

    @rule(kind=kinds, via=vias, oid=oids, index=indexes)
    def flush_page(self, kind, via, oid, index):
        self.twins.pools[kind].both("flush_page", via, oid, index)

    @rule(kind=kinds, via=vias, oid=oids)
    def flush_object(self, kind, via, oid):
        self.twins.pools[kind].both("flush_object", via, oid)

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, tag=tags, length=st.integers(1, 70 * PAGE))
    def put_range(self, kind, via, oid, index, tag, length):
        self.twins.pools[kind].both("put_range", via, oid, index, self.twins.content(tag, length))

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, count=st.integers(1, 70), free=frees)
    def get_range(self, kind, via, oid, index, count, free):
        self.twins.pools[kind].both("get_range", via, oid, index, count, free)

    @rule(kind=kinds, via=vias, oid=oids, index=indexes, count=st.integers(1, 70), free=frees)
    def get_range_into(self, kind, via, oid, index, count, free):
        self.twins.pools[kind].get_range_into(via, oid, index, count, free)

    @rule(
        kind=kinds,
        via=vias,
        oid=oids,
        index=indexes,
        count=st.one_of(st.none(), st.integers(1, 70)),
        choice=st.integers(0, 2**32),
    )
    def view(self, kind, via, oid, index, count, choice):
        twin = self.twins.pools[kind]
        if choice % 2 and twin.model.objects:
            oid = sorted(twin.model.objects)[choice % len(twin.model.objects)]
            index = sorted(twin.model.objects[oid])[choice // 8 % len(twin.model.objects[oid])]
            count = count and count % 3 + 1
        held = twin.view(via, oid, index, count)
        if held is not None:
            self.views.append(held)

    @rule(choice=st.integers(0, 2**32))
    def look_again_and_let_go(self, choice):
        if self.views:
            self.look_at(self.views.pop(choice % len(self.views)))

    def look_at(self, held):
        view, pages = held
        with view as found:
            assert [bytes(one) for one in (found if isinstance(found, tuple) else (found,))] == pages

    @rule(
        kind=kinds, via=vias, oid=oids, places=st.lists(st.tuples(oids, indexes), max_size=8), tag=tags, length=lengths
    )
    def put_many(self, kind, via, oid, places, tag, length):
        pages = [self.twins.content((tag + n) % 2**64, 1 + (length + 37 * n) % PAGE) for n in range(len(places))]
        self.twins.pools[kind].many("put_many", via, oid, places, pages)

    @rule(kind=kinds, via=vias, oid=oids, places=st.lists(st.tuples(oids, indexes), max_size=8), free=frees)
    def get_many(self, kind, via, oid, places, free):
        self.twins.pools[kind].many("get_many", via, oid, places, free)

    @rule(kind=kinds, via=vias, oid=oids)
    def object_info(self, kind, via, oid):
        self.twins.pools[kind].both("object_info", via, oid)

    @rule(kind=kinds)
    def destroy(self, kind):
        self.twins.renew(kind)

    @invariant()
    def counts_agree(self):
        for twin in self.twins.pools.values():
            twin.compare_counts()

    def teardown(self):
        try:
            for held in self.views:
                self.look_at(held)
            self.twins.compare_all()
        finally:
            self.eng.close()
            engine.unlink(self.eng.name)


@pytest.mark.parametrize(("pam", "examples"), [("raw", 60), ("lz4", 30), ("zstd", 30)])
def test_any_sequence_answers_as_a_dictionary(arena_name, pam, examples):
    Machine.names = (f"{arena_name}-{n}" for n in itertools.count())
    Machine.pam = pam
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=60))
