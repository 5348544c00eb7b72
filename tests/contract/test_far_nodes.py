"""Owns what all processes of an arena know of the servers of a far tier: the breaker of each, and
how it has answered. What a tier does with it is in tests/servers.
"""
import os

import pytest

import engine
from engine.far.nodes import NOT_ASKED, UNKNOWN
from tests.contract.fars import PAGE, content, far_ones, fill, fresh_dict_tier, get
from tests.stopped import fork

PATIENCE_NS = 120_000_000


class Asker:
    """The table of nodes of a pool, as its tier has it: `steps(call)` runs a call where a tier is
    asked, out of the turn."""

    def __init__(self, make_arena, monkeypatch):
        self.kind = fresh_dict_tier(monkeypatch)
        nodes = []

        def opened(target, nonce, words, table):
            nodes.append(table)
            return self.kind()
        monkeypatch.setattr(self.kind, "open", staticmethod(opened))
        self.pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4).new_pool(
            "p", far="dict:", localify=False)
        fill(self.pool, 900)
        self.far = far_ones(self.pool, self.kind, 900)[0]
        self.nodes = nodes[0]

    def steps(self, call):
        done = []

        def meddle(verb, names):
            self.kind.before = None
            call(self.nodes)
            done.append(True)
        self.kind.before = meddle
        assert get(self.pool, self.far) == content(self.far) and done

    def row(self, address):
        return next(row for row in self.pool.far_nodes if row["address"] == address)


@pytest.fixture
def asker(make_arena, monkeypatch):
    return Asker(make_arena, monkeypatch)


def fail(nodes, address, ticket, fault="late"):
    nodes.note([(ticket, address, 3, 100_000, fault)])


def test_a_node_that_has_not_answered_is_left_alone_and_then_tried_by_one(asker, caplog):
    def call(nodes):
        ill, well = nodes.admit(["a:1", "b:1"], PATIENCE_NS)
        assert NOT_ASKED not in (ill, well)
        fail(nodes, "a:1", ill)
        assert nodes.admit(["a:1"], PATIENCE_NS) == [NOT_ASKED]
        assert nodes.admit(["b:1"], PATIENCE_NS) == [well]
        asker.pool.engine.set_clock_ahead(0.6)
        trial, = nodes.admit(["a:1"], PATIENCE_NS)
        assert trial != NOT_ASKED and nodes.admit(["a:1"], PATIENCE_NS) == [NOT_ASKED]
        nodes.note([(trial, "a:1", 1, 70, None)])
        assert nodes.admit(["a:1"], PATIENCE_NS) == [ill]
    asker.steps(call)
    row = asker.row("a:1")
    assert (row["opened"], row["late"], row["asked"], row["pages"], row["open_for"]) == (1, 1, 2, 4, 0)
    assert row["times"][:3] == [0, 1, 0] and sum(row["times"]) == 1
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "far tier: node a:1 does not answer; it is left alone for a while"]


def test_it_is_left_alone_twice_as_long_each_time_up_to_eight_seconds(asker):
    def call(nodes):
        ahead = 0.0
        ticket, = nodes.admit(["a:1"], PATIENCE_NS)
        for seconds in (0.5, 1, 2, 4, 8, 8):
            fail(nodes, "a:1", ticket, "failed")
            asker.pool.engine.set_clock_ahead(ahead + seconds - 0.2)
            assert nodes.admit(["a:1"], PATIENCE_NS) == [NOT_ASKED]
            ahead += seconds + 0.3
            asker.pool.engine.set_clock_ahead(ahead)
            ticket, = nodes.admit(["a:1"], PATIENCE_NS)
            assert ticket != NOT_ASKED
    asker.steps(call)
    assert asker.row("a:1")["failed"] == 6 and asker.row("a:1")["opened"] == 6


def test_several_that_fail_at_once_count_as_one(asker):
    def call(nodes):
        tickets = [nodes.admit(["a:1"], PATIENCE_NS)[0] for _ in range(8)]
        for ticket in tickets:
            fail(nodes, "a:1", ticket)
        asker.pool.engine.set_clock_ahead(0.7)
        assert nodes.admit(["a:1"], PATIENCE_NS) != [NOT_ASKED]
    asker.steps(call)
    assert (asker.row("a:1")["opened"], asker.row("a:1")["late"]) == (1, 8)


def test_who_is_killed_while_he_tries_holds_nobody_up(asker):
    def call(nodes):
        fail(nodes, "a:1", nodes.admit(["a:1"], PATIENCE_NS)[0])
        asker.pool.engine.set_clock_ahead(0.7)
        assert nodes.admit(["a:1"], PATIENCE_NS) != [NOT_ASKED]         # and never says what came of it
        asker.pool.engine.set_clock_ahead(0.7 + 2 * PATIENCE_NS / 1e9)
        assert nodes.admit(["a:1"], PATIENCE_NS) != [NOT_ASKED]
    asker.steps(call)


def test_a_node_without_a_place_is_asked_always(asker):
    def call(nodes):
        tickets = nodes.admit([f"{n}:1" for n in range(80)], PATIENCE_NS)
        assert [ticket[0] for ticket in tickets].count(UNKNOWN) == 20 and len(set(tickets)) == 61
        for n, ticket in enumerate(tickets):
            fail(nodes, f"{n}:1", ticket)
        again = nodes.admit([f"{n}:1" for n in range(80)], PATIENCE_NS)
        assert again.count(NOT_ASKED) == 60
        nodes.count("79:1", 1, 1)
        nodes.count("0:1", 2, 3)
    asker.steps(call)
    rows = asker.pool.far_nodes
    assert len(rows) == 60 and (asker.row("0:1")["moved"], asker.row("0:1")["refused"]) == (2, 3)


def test_all_processes_know(asker):
    def call(nodes):
        fail(nodes, "a" * 80 + ":1", nodes.admit(["a" * 80 + ":1"], PATIENCE_NS)[0])
    asker.steps(call)

    def child():
        row, = engine.attach(asker.pool.engine.name).pool("p").far_nodes
        assert row["opened"] == 1 and 0 < row["open_for"] <= 0.5 and row["address"] == "a" * 63
    assert os.waitpid(fork(child), 0)[1] == 0


def test_a_destroyed_pool_has_no_nodes(asker):
    def call(nodes):
        asker.pool.destroy()
        asker.pool.engine.new_pool("q")
        assert nodes.admit(["a:1"], PATIENCE_NS) == [(UNKNOWN, 0)]
        nodes.note([((UNKNOWN, 0), "a:1", 1, 1, None)])
        nodes.count("a:1", 1, 1)
    with pytest.raises(engine.PoolDestroyed):
        asker.steps(call)
