"""Owns what an arena knows of a client (a tenant): its weight, its cap, and whether it is frozen.

May call: session, and shm's locks. Called by users through Engine.client. The words stand in the client page, are written under the pool
table lock one at a time, and read by everybody as they are, so a kill has set a word or has not.
"""
import cython
from cython.cimports.engine.layout import CLIENTS_MAX, ClientPage, pool_at
from cython.cimports.engine.session import Engine
from cython.cimports.shm.atomics import barrier, load
from cython.cimports.shm.layout import Worker, u64
from cython.cimports.shm.lock import unlock
from engine.errors import TmemError

WEIGHT = cython.declare(cython.int, 1)
CAP = cython.declare(cython.int, 2)
FROZEN = cython.declare(cython.int, 3)


def seat(engine: Engine, id):
    """Index + 1 of a client in the client page, entered there with weight 1 if it is new; 0: no room. Under the pool table lock."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), engine.att.w.base + engine.att.w.client_off)
    i: u64
    wanted: u64 = id + 1
    free: u64 = 0
    for i in range(CLIENTS_MAX):
        if table.clients[i].id == wanted:
            return i + 1
        if table.clients[i].id == 0 and free == 0:
            free = i + 1
    if free != 0:
        table.clients[free - 1].weight = 1
        table.clients[free - 1].cap = 0
        table.clients[free - 1].frozen = 0
        barrier()
        table.clients[free - 1].id = wanted
    return free


def open_client(engine: Engine, id):
    """The client of this id, entered if it is new. TmemError if the table has no room for another."""
    w: cython.pointer(Worker) = cython.address(engine.att.w)
    table: cython.pointer(ClientPage)
    idx: u64
    place: u64
    engine.att.enter()
    try:
        table = engine.lock_table()
        try:
            place = seat(engine, id)
            if place == 0:
                raise TmemError(f"arena {engine.name!r}: all {CLIENTS_MAX} places for clients are taken")
            for idx in range(min(load(cython.address(table.pools_high)), cython.cast(u64, engine.max_pools))):
                if pool_at(w, idx).client == cython.cast(u64, id):
                    pool_at(w, idx).tenant = place
        finally:
            unlock(w, cython.address(table.lock))
            unlock(w, cython.address(w.slot.own))
    finally:
        engine.att.leave()
    client: Client = Client.__new__(Client)
    client.engine = engine
    client.id = id
    return client


@cython.cclass
class Client:
    """A tenant of the arena: the owner of the pools made with its id. Made by Engine.client."""

    def set(self, which, value):
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        table: cython.pointer(ClientPage)
        place: u64
        self.engine.att.enter()
        try:
            table = self.engine.lock_table()
            try:
                place = seat(self.engine, self.id)
                if which == WEIGHT:
                    table.clients[place - 1].weight = value
                elif which == CAP:
                    table.clients[place - 1].cap = value
                else:
                    table.clients[place - 1].frozen = value
            finally:
                unlock(w, cython.address(table.lock))
                unlock(w, cython.address(w.slot.own))
        finally:
            self.engine.att.leave()
        return 0

    def get(self, which):
        w: cython.pointer(Worker) = cython.address(self.engine.att.w)
        table: cython.pointer(ClientPage)
        i: u64
        self.engine.att.enter()
        try:
            table = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
            for i in range(CLIENTS_MAX):
                if table.clients[i].id == cython.cast(u64, self.id) + 1:
                    if which == WEIGHT:
                        return table.clients[i].weight
                    return table.clients[i].cap if which == CAP else table.clients[i].frozen
        finally:
            self.engine.att.leave()
        return 1 if which == WEIGHT else 0

    @property
    def weight(self):
        """Its part of the memory for ephemeral pages, by the sum of all weights, when memory is short."""
        return self.get(WEIGHT)

    @property
    def cap(self):
        """Ephemeral pages that its pools may hold together; 0: as many as there is room for."""
        return self.get(CAP)

    @property
    def frozen(self):
        """True while its pools take no new pages."""
        return self.get(FROZEN) != 0

    def freeze(self):
        """Take no new pages from now on: puts of such are refused. Puts over pages, gets and flushes go on."""
        self.set(FROZEN, 1)

    def thaw(self):
        """Take new pages again."""
        self.set(FROZEN, 0)

    def __repr__(self):
        return f"<tmem client {self.id} (weight {self.weight}, cap {self.cap}{', frozen' if self.frozen else ''})>"


def change(client: Client, weight, cap):
    """Set what is given, by Engine.client, which has checked it."""
    if weight is not None:
        client.set(WEIGHT, weight)
    if cap is not None:
        client.set(CAP, cap)
