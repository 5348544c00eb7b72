"""Owns what an arena knows of a client: its weight, its cap, and whether it is frozen.

The words are those of the client's seat (`engine/member/seats.py`).
"""
import cython
from cython.cimports.engine.layout.regions import client_at
from cython.cimports.engine.layout.structs import CLIENTS_MAX, ClientPage
from cython.cimports.engine.layout.words import CAP_BYTES
from cython.cimports.engine.member.member import Member
from cython.cimports.engine.member.seats import seat_of
from cython.cimports.shm.atomics import load, set
from cython.cimports.shm.layout import Worker
from cython.cimports.shm.lock import unlock_both
from cython.cimports.shm.seal import seal
from engine.errors import TmemError
from engine.member.access import host_only


def open_client(engine: Member, id, weight=None, cap=None):
    """The client of this id, with what is given set. TmemError if all seats are taken, AccessDenied
    if it is not the host who sets."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    table: cython.pointer(ClientPage)
    client: Client = Client.__new__(Client)
    if weight is not None or cap is not None:
        host_only(engine, "change what a client may have")
    client.engine = engine
    client.id = id
    engine.att.enter()
    try:
        table = engine.lock_table()
        try:
            client.seat = seat_of(w, id, True)
            if client.seat == 0:
                raise TmemError(f"arena {engine.name!r}: all {CLIENTS_MAX} places for clients are taken")
            if weight is not None:
                set(cython.address(client_at(w, client.seat).weight), weight)
            if cap is not None:
                set(cython.address(client_at(w, client.seat).cap), cap)
        finally:
            unlock_both(w, cython.address(table.lock))
    finally:
        engine.att.leave()
    return client


@cython.cclass
class Client:
    """A tenant of the arena: the owner of the pools made with its id. Made by Engine.client."""

    def record(self):
        return client_at(cython.address(self.engine.att.w), self.seat)

    def freeze_or_thaw(self, frozen):
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        table: cython.pointer(ClientPage)
        host_only(self.engine, "freeze a client or thaw it")
        self.engine.att.enter()
        try:
            table = self.engine.lock_table()
            set(cython.address(self.record().frozen), frozen)
            unlock_both(w, cython.address(table.lock))
        finally:
            self.engine.att.leave()
        return 0

    @property
    def weight(self):
        """Its part of the memory for ephemeral pages, by the sum of all weights, when memory is
        short."""
        self.engine.att.enter()
        try:
            return load(cython.address(self.record().weight))
        finally:
            self.engine.att.leave()

    def cap_word(self):
        self.engine.att.enter()
        try:
            return load(cython.address(self.record().cap))
        finally:
            self.engine.att.leave()

    @property
    def cap(self):
        """Ephemeral pages that its pools may hold together; 0: it has no cap, or one in bytes."""
        return 0 if self.cap_word() & CAP_BYTES() else self.cap_word()

    @property
    def cap_bytes(self):
        """Bytes that ephemeral pages of its pools may take together; 0: it has no cap, or one in
        pages."""
        return self.cap_word() & ~CAP_BYTES() if self.cap_word() & CAP_BYTES() else 0

    @property
    def frozen(self):
        """True while its pools take no new pages."""
        self.engine.att.enter()
        try:
            return load(cython.address(self.record().frozen)) != 0
        finally:
            self.engine.att.leave()

    def freeze(self):
        """Take no new pages from now on: puts of such are refused. Puts over pages, gets and
        flushes go on. Raises AccessDenied (only the host does this)."""
        self.freeze_or_thaw(1)

    def thaw(self):
        """Take new pages again. Raises AccessDenied (only the host does this)."""
        self.freeze_or_thaw(0)

    def __reduce__(self):
        return (open_client, (self.engine, self.id))

    def __repr__(self):
        return f"<tmem client {self.id} (weight {self.weight}, cap {self.cap}{', frozen' if self.frozen else ''})>"


seal(Client, "Engine.client")
