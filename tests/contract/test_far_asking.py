"""Owns in which order a tier of servers asks its nodes, and what becomes of what was sent when one
of them fails. With a client that has no servers: those are in tests/servers.
"""
import pytest

from engine.far import valkey
from engine.far.answers import FAILED
from engine.far.client import Refusal, Unanswered
from engine.far.nodes import NOT_ASKED
from engine.far.target import target_of
from engine.far.valkey import ValkeyTier

TIMEOUT_S = 0.1


class Client:
    """Three nodes; a key ends with the name of its own. `acts` has what a step on a node does
    first."""

    survives_fork = True

    def __init__(self):
        self.steps = []
        self.acts = {}

    def nodes(self):
        return ["a", "b", "c"]

    def node_of(self, key):
        return key[-1:].decode()

    def step(self, what, node):
        self.steps.append(f"{what} {node}")
        self.acts.get((what, node), lambda: None)()

    def begin(self, node, commands, more):
        self.step("begin", node)
        return node, commands

    def finish(self, begun, patience):
        self.step("finish", begun[0])
        return [command[1] for command in begun[1]]

    def drop(self, begun):
        self.step("drop", begun[0])

    def follow(self, command):
        self.step("follow", command[1].decode())
        return b"followed"

    def close(self):
        pass


class Nodes:
    """Breakers: `tried` is a node that is tried again, `away` one that is not asked."""

    def __init__(self, tried=None, away=None):
        self.tried, self.away, self.noted, self.counted = tried, away, [], []

    def admit(self, addresses, patience_ns):
        return [NOT_ASKED if one == self.away else (1, 7 if one == self.tried else 0) for one in addresses]

    def note(self, outcomes):
        self.noted += [(address, fault) for _, address, _, _, fault in outcomes]

    def count(self, address, moved, refused):
        self.counted.append((address, moved, refused))


def tier_of(client, nodes=None):
    tier = ValkeyTier(target_of("valkey://a:1?timeout=100ms"), nodes or Nodes())
    tier.connector.make = lambda known: client
    return tier


COMMANDS = [("GET", b"1a"), ("GET", b"2b"), ("GET", b"3c"), ("GET", b"4a")]
KEYS = [key for _, key in COMMANDS]


def late():
    raise Unanswered("late", True)


def broken():
    raise Unanswered("broken", False)


def test_all_are_sent_before_one_is_waited_for():
    client = Client()
    assert tier_of(client).ask(COMMANDS) == KEYS
    assert client.steps == ["begin a", "begin b", "begin c", "finish c", "finish b", "finish a"]


def test_a_node_that_is_tried_again_is_asked_last():
    client = Client()
    assert tier_of(client, Nodes(tried="a", away="b")).ask(COMMANDS) == [b"1a", FAILED, b"3c", b"4a"]
    assert client.steps == ["begin c", "begin a", "finish a", "finish c"]


@pytest.mark.parametrize("what, fault", [(late, "late"), (broken, "failed")])
@pytest.mark.parametrize("step", ["begin", "finish"])
@pytest.mark.parametrize("node", ["a", "b", "c"])
def test_one_that_fails_takes_no_other_along(step, node, what, fault):
    client, nodes = Client(), Nodes()
    client.acts[step, node] = what
    found = tier_of(client, nodes).ask(COMMANDS)
    assert found == [FAILED if key.endswith(node.encode()) else key for key in KEYS]
    assert sorted(nodes.noted) == sorted((one, fault if one == node else None) for one in "abc")
    assert not any(step.startswith("drop") for step in client.steps)


def test_who_takes_all_the_time_to_connect_keeps_the_rest_from_being_asked(monkeypatch):
    at = [1000.0]
    monkeypatch.setattr(valkey.time, "monotonic", lambda: at[0])
    client, nodes = Client(), Nodes()
    tier = tier_of(client, nodes)

    def slow():
        at[0] += 2 * TIMEOUT_S
        late()
    client.acts["begin", "b"] = slow
    # What was answered meanwhile is there.
    assert tier.ask(COMMANDS) == [b"1a", FAILED, FAILED, b"4a"]
    assert client.steps == ["begin a", "begin b", "finish a"]
    assert sorted(nodes.noted) == [("a", None), ("b", "late")]         # c has had no chance to answer


class Breakers(Nodes):
    """Such that open for half a second when a node does not answer, by the clock `at`."""

    def __init__(self, at):
        super().__init__()
        self.at, self.until = at, {}

    def admit(self, addresses, patience_ns):
        return [NOT_ASKED if self.at[0] < self.until.get(one, 0) else (1, int(one in self.until)) for one in addresses]

    def note(self, outcomes):
        for _, address, _, _, fault in outcomes:
            if fault is None:
                self.until.pop(address, None)
            else:
                self.until[address] = self.at[0] + 0.5


def test_a_node_that_cannot_be_reached_takes_the_others_along_once(monkeypatch):
    """By a process that has no connection yet."""
    at = [1000.0]
    monkeypatch.setattr(valkey.time, "monotonic", lambda: at[0])
    client = Client()
    tier = tier_of(client, Breakers(at))

    def unreachable():
        at[0] += TIMEOUT_S
        late()
    client.acts["begin", "a"] = unreachable
    assert tier.ask(COMMANDS) == [FAILED] * 4
    for _ in range(20):
        at[0] += 0.13
        assert tier.ask(COMMANDS) == [FAILED, b"2b", b"3c", FAILED]
    assert client.steps.count("begin a") > 3


@pytest.mark.parametrize("step, node", [("begin", "b"), ("begin", "c"), *(("finish", node) for node in "abc")])
def test_what_an_exception_leaves_behind_is_dropped(step, node):
    """As of a signal handler: what was sent and not finished is no next caller's answer."""
    def interrupt():
        raise KeyboardInterrupt
    client = Client()
    client.acts[step, node] = interrupt
    tier = tier_of(client)
    with pytest.raises(KeyboardInterrupt):
        tier.ask(COMMANDS)
    begun = {one[-1] for one in client.steps if one.startswith("begin")} - ({node} if step == "begin" else set())
    ended = [one[-1] for one in client.steps if one.startswith(("finish", "drop"))]
    assert sorted(ended) == sorted(begun)
    client.acts.clear()
    assert tier.ask(COMMANDS) == KEYS


def test_pages_that_have_moved_are_followed():
    client, nodes = Client(), Nodes()
    finish = client.finish
    client.finish = lambda begun, patience: [
        Refusal("MOVED", True) if key == b"1a" else Refusal("OOM") if key == b"2b" else key
        for key in finish(begun, patience)]
    found = tier_of(client, nodes).ask(COMMANDS)
    assert found[0] == b"followed" and isinstance(found[1], Refusal) and found[2:] == KEYS[2:]
    assert sorted(nodes.counted) == [("a", 1, 0), ("b", 0, 1)]
