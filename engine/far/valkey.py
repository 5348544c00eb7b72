"""Owns the far tier that is a Valkey or Redis server, or a cluster of them.

The cluster is the library's business (engine/far/client.py). Here is what a tier adds: how a page
is called there, one batch a node, how long all of it may take, and that a node which does not
answer is left alone by all processes (engine/far/nodes.py).
A page is `tmem:NONCE:GENERATION`, so an access list of `~tmem:*` is enough, and one cluster serves
many arenas. A page that must not be lost counts as kept when so many replicas have it as the target
says (WAIT); a cluster that was told to keep it may lose it all the same when a replica that lags
behind takes over.
Kill at any instruction: names that nobody has a descriptor for are garbage, until their time is up
or `tmem far gc` finds them.
"""
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from engine.errors import TmemError
from engine.far.answers import FAILED, Answer
from engine.far.batch import Batch
from engine.far.client import Client, Refusal, Unanswered, connect, run
from engine.far.connector import Connector
from engine.far.names import key_of
from engine.far.nodes import NOT_ASKED, Nodes
from engine.far.target import LONGEST, Target, target_of

PATIENCE_S = 5.0                # for the first client, when a pool is made or opened
GRACE_S = 0.02                  # what an answer may take on its way through this process


class _Asked:
    """A node that is asked in a call: for which commands, and what came of it."""

    __slots__ = ("answers", "begun", "fault", "node", "places", "sent", "ticket", "us")

    def __init__(self, node: str, places: list[int], ticket: Any) -> None:
        self.node = node
        self.places = places            # of its commands in those of the call
        self.ticket = ticket            # of its breaker
        self.begun: Any = None          # what was sent and is not answered yet
        self.answers: list[Any] = []
        self.fault: str | None = None
        self.sent = 0.0                 # when it was asked; 0.0: it was not
        self.us = 0


class ValkeyTier:
    """A tier of servers; made by `make` and `open`."""

    deletes = True
    apart = False               # nodes are looked up in the arena
    longest = LONGEST
    batch_bytes = 2 * LONGEST

    def __init__(self, target: Target, nodes: Nodes | None) -> None:
        self.target = target
        self.timeout = target.timeout / 1000
        self.durable = target.wait > 0
        self.nodes = nodes
        self.connector = Connector(lambda known: connect(target, known))

    # --- making and opening -----------------------------------------------------------------------

    @classmethod
    def make(cls, text: str, nonce: int, mode: int) -> tuple["ValkeyTier", list[int]]:
        """The tier of a new pool, and its words. TmemError if no server answers."""
        tier = cls(target_of(text), None)
        if not tier.connector.wait(PATIENCE_S):
            raise TmemError(tier.connector.trouble or f"far: no server has answered within {PATIENCE_S:g} s")
        return tier, [0, 0, 0, 0]

    @classmethod
    def open(cls, text: str, nonce: int, words: Sequence[int], nodes: Nodes) -> "ValkeyTier":
        """The tier of a pool that is there. If no server answers now, it is tried again while the
        pool is used."""
        tier = cls(target_of(text), nodes)
        tier.connector.wait(PATIENCE_S)
        return tier

    def __del__(self) -> None:
        if hasattr(self, "connector"):
            self.connector.close()

    @property
    def trouble(self) -> str | None:
        """Why pages cannot be had from there at the moment; None: they can, or nobody has tried."""
        return self.connector.trouble

    # --- batches, a node each ---------------------------------------------------------------------

    def ask(self, commands: Sequence[tuple[Any, ...]], last: Sequence[tuple[Any, ...]] = ()) -> list[Any]:
        """Send commands to the nodes that have their keys (the second word), to each followed by
        the commands `last`: what was answered to each of `commands`, with those to `last` behind it
        in a tuple if there are any. FAILED: no answer. No call takes longer than the timeout and a
        bit."""
        end = time.monotonic() + self.timeout + GRACE_S
        found: list[Any] = [FAILED] * len(commands)
        client = self.connector.take(self.timeout)
        if client is not None:
            try:
                moved = self._ask_nodes(client, commands, last, found)
                for i in moved:
                    found[i] = self._follow(client, commands[i], last, end)
            finally:
                self.connector.give(client)
        return found

    def _admitted(self, client: Client, commands: Sequence[tuple[Any, ...]]) -> list[_Asked]:
        """The nodes that have the keys of commands, and may be asked; those last that somebody
        tries again after they had not answered."""
        groups: dict[str, list[int]] = {}
        for i, command in enumerate(commands):
            try:
                groups.setdefault(client.node_of(command[1]), []).append(i)
            except Unanswered:
                self.connector.renew()
        if self.nodes is None:
            return [_Asked(node, places, None) for node, places in groups.items()]
        tickets = self.nodes.admit(list(groups), int((self.timeout + GRACE_S) * 1e9))
        asked = [_Asked(node, places, ticket) for ticket, (node, places) in zip(tickets, groups.items(), strict=True)
                 if ticket != NOT_ASKED]
        return asked if len(asked) == 1 else sorted(asked, key=lambda one: one.ticket[1] != 0)

    def _ask_nodes(
        self, client: Client, commands: Sequence[tuple[Any, ...]], last: Sequence[tuple[Any, ...]], found: list[Any]
    ) -> list[int]:
        """The same with a client, into `found`. Which commands other nodes are to be asked for."""
        asked = self._admitted(client, commands)
        moved: list[int] = []
        try:
            self._begin(client, commands, last, asked)
            # The one that was sent last has been waited for least, and GLIDE has not begun it yet.
            for one in reversed(asked):
                self._finish(client, one)
        finally:
            for one in asked:
                if one.begun is not None:
                    client.drop(one.begun)
        for one in asked:
            behind = one.answers[len(one.places):]
            refused = 0
            for i, answer in zip(one.places, one.answers, strict=False):
                if isinstance(answer, Refusal):
                    refused += 1
                    if answer.moved:
                        moved.append(i)
                found[i] = (answer, *behind) if last else answer
            if refused and self.nodes is not None:
                sent = sum(answer.moved for answer in one.answers if isinstance(answer, Refusal))
                self.nodes.count(one.node, sent, refused - sent)
        if self.nodes is not None:
            self.nodes.note([(one.ticket, one.node, len(one.places), one.us, one.fault) for one in asked if one.sent])
        return moved

    def _begin(self, client: Client, commands: Sequence[tuple[Any, ...]], last: Sequence[tuple[Any, ...]],
               asked: Sequence[_Asked]) -> None:
        """Send its part to each node. Where connecting to one has taken all the time, the rest is
        not asked, of which nobody says that it does not answer."""
        end = time.monotonic() + self.timeout
        for one in asked:
            at = time.monotonic()
            if one is not asked[0] and at >= end:
                break
            one.sent = at
            try:
                one.begun = client.begin(one.node, [*(commands[i] for i in one.places), *last], one is not asked[-1])
            except Unanswered as error:
                self._note_fault(one, error)

    def _finish(self, client: Client, one: _Asked) -> None:
        """Wait for what a node answers, as long as it may take since it was asked."""
        if one.begun is None:
            return
        begun, one.begun = one.begun, None      # finished it is, whatever ends it
        try:
            one.answers = client.finish(begun, one.sent + self.timeout + GRACE_S - time.monotonic())
        except Unanswered as error:
            self._note_fault(one, error)
        one.us = int((time.monotonic() - one.sent) * 1e6)

    def _note_fault(self, one: _Asked, error: Unanswered) -> None:
        one.fault = "late" if error.late else "failed"
        self.connector.renew()

    def _follow(self, client: Client, command: tuple[Any, ...], last: Sequence[tuple[Any, ...]], end: float) -> Any:
        """What another node answers, to which one has sent us."""
        self.connector.renew()
        if last or time.monotonic() >= end:
            return FAILED       # whether replicas have it is asked on the connection it was written on
        try:
            answer = client.follow(command)
        except Unanswered:
            return FAILED
        return FAILED if isinstance(answer, Refusal) else answer

    # --- what a tier is asked ---------------------------------------------------------------------

    def prepare(self, lengths: Sequence[int], words: Sequence[int]) -> list[int]:
        """Nothing to prepare."""
        return list(words)

    def put_many(self, batch: Batch) -> list[int]:
        """SET each, for as long as the page and the target say; what was not acknowledged is not
        kept."""
        wait = self.target.wait
        last = (("WAIT", b"%d" % wait, b"%d" % max(1, self.target.timeout // 2)),) if wait else ()
        names, values, ttls = batch.names, batch.values, batch.ttls
        commands = []
        for name, value, left in zip(names, values, ttls, strict=True):
            ttl = left if wait or not self.target.ttl else min(left or self.target.ttl, self.target.ttl)
            commands.append(("SET", key_of(name), value, "PX", b"%d" % ttl) if ttl else ("SET", key_of(name), value))
        tokens = []
        for answer in self.ask(commands, last):
            kept, have = answer if wait and isinstance(answer, tuple) else (answer, wait)
            tokens.append(int(kept in (b"OK", "OK", True) and isinstance(have, int) and have >= wait))
        return tokens

    def get_many(
        self, names: Sequence[bytes], tokens: Sequence[int], lengths: Sequence[int]
    ) -> list[bytes | None | Answer]:
        """GET each."""
        found = self.ask([("GET", key_of(name)) for name in names])
        return [FAILED if isinstance(answer, Refusal) else answer for answer in found]

    def delete_many(self, names: Sequence[bytes], tokens: Sequence[int]) -> None:
        """UNLINK each. What is not heard of stays until its time is up, or until somebody looks for
        garbage."""
        self.ask([("UNLINK", key_of(name)) for name in names])

    # --- looking for garbage ----------------------------------------------------------------------

    def listed(self, nonce: int, silent: set[str]) -> Iterator[int]:
        """The generations that there are names of for an arena, some of them twice if slots move
        meanwhile. Nodes that do not answer go into `silent`."""
        client = self.connector.take(PATIENCE_S)
        if client is None:
            raise TmemError(self.connector.trouble or "far: no server answers")
        try:
            for key in scanned(client, b"tmem:%016x:*" % nonce, silent):
                parts = key.split(b":")
                if len(parts) == 3 and re.fullmatch(b"[0-9a-f]{16}", parts[2]):
                    yield int(parts[2], 16)
        finally:
            self.connector.give(client)


def scanned(client: Client, pattern: bytes, silent: set[str], nodes: Sequence[str] | None = None) -> Iterator[bytes]:
    """The keys that fit a pattern, of all nodes or of these."""
    for node in client.nodes() if nodes is None else nodes:
        cursor = b"0"
        while True:
            try:
                answer, = run(client, node, [("SCAN", cursor, "MATCH", pattern, "COUNT", b"1000")], PATIENCE_S)
            except Unanswered:
                silent.add(node)
                break
            if isinstance(answer, Refusal):
                silent.add(node)
                break
            cursor, keys = answer
            yield from keys
            if cursor in (b"0", 0):
                break
