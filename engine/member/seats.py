"""Owns the seats of clients: where in the client page the record of a client is.

A seat is for ever. Its words are written under the pool table lock one at a time, and read by
everybody as they are: a kill has set a word or has not.
"""
import cython
from cython.cimports.engine.layout.structs import CLIENTS_MAX, ClientPage, ClientRecord
from cython.cimports.shm.atomics import set_release
from cython.cimports.shm.layout import u64


def seat_of(w, id, enter):
    """The seat of a client, counted from 1; 0 if it has none. With `enter`, under the pool table
    lock, it gets one if any is left."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    client: cython.pointer(ClientRecord)
    i: u64
    for i in range(CLIENTS_MAX):
        client = cython.address(table.clients[i])
        if client.id == id + 1:
            return i + 1
        if client.id == 0:
            # Seats are taken in order and never given up: there is none behind the first that is
            # free.
            if not enter:
                return 0
            client.weight = 1
            client.cap = 0
            client.frozen = 0
            set_release(cython.address(client.id), id + 1)
            return i + 1
    return 0
