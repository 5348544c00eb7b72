"""Owns which ranges of an arena's file this layer calls backed, for a copy of the file that lost
its memory where it is sparse (shm/copies.py). What it reads may be anything: every count is bounded
by the geometry.
"""
import cython
from cython.cimports.engine.layout.regions import (
    buckets_offset,
    ghosts_offset,
    leases_offset,
    pins_start,
    queues_bytes,
    queues_offset,
    records_offset,
    shards_offset,
    twins_offset,
)
from cython.cimports.engine.layout.structs import (
    BUCKET_BYTES,
    CLIENT_PAGE,
    GEO_BUCKETS,
    GEO_GHOSTS,
    GEO_POOLS,
    GEO_SHARDS,
    GEO_TWINS,
    PINS_BACKED,
    PINS_MAX,
    POOL_BYTES,
    SHARD_BYTES,
    TWIN_BUCKET_BYTES,
    ClientPage,
    Shard,
)
from cython.cimports.libc.string import memset
from cython.cimports.shm.layout import SLOT_BYTES, SYS_PAGE, Slot, Worker, u64
from engine.layout.geometry import is_possible


def parts(read, where, geometry, slots):
    """(start, size) of them. `read` gives bytes of the file, by offset and size; `where` says where
    each region is; `slots` worker slots were ever used."""
    w: Worker
    i: u64
    head: bytes
    page: bytes
    row: bytes
    if not is_possible(geometry):
        return []           # attaching refuses it
    memset(cython.address(w), 0, cython.sizeof(Worker))
    w.client_off = where["client"]
    for i, word in enumerate(geometry["client"]):
        w.client_geometry[i] = word
    head = read(where["client"], CLIENT_PAGE)
    client: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), cython.cast(cython.p_char, head))
    high: u64 = min(client.pools_high, w.client_geometry[GEO_POOLS])
    found = [
        (where["client"], CLIENT_PAGE),
        (records_offset(cython.address(w)), high * POOL_BYTES),
        (buckets_offset(cython.address(w)), high * w.client_geometry[GEO_BUCKETS] * BUCKET_BYTES),
        (queues_offset(cython.address(w)), high * queues_bytes(cython.address(w))),
        (shards_offset(cython.address(w)), CLIENT_PAGE),
    ]
    if client.twins != 0:
        found.append((twins_offset(cython.address(w)), w.client_geometry[GEO_TWINS] * TWIN_BUCKET_BYTES))
    for i in range(64):
        if client.leases >> i & 1:
            found.append((leases_offset(cython.address(w)) + i * CLIENT_PAGE, CLIENT_PAGE))
    page = read(shards_offset(cython.address(w)), w.client_geometry[GEO_SHARDS] * SHARD_BYTES)
    for i in range(w.client_geometry[GEO_SHARDS]):
        if (cython.cast(cython.pointer(Shard), cython.cast(cython.p_char, page)) + i).ghosts != 0:
            found.append((ghosts_offset(cython.address(w), i), w.client_geometry[GEO_GHOSTS] * 8))
    for i in range(slots):
        row = read(where["slots"] + i * SLOT_BYTES, SYS_PAGE)
        pins = min(cython.cast(cython.pointer(Slot), cython.cast(cython.p_char, row)).client[PINS_BACKED], PINS_MAX)
        found.append((where["ledgers"] + i * geometry["ledger_bytes"] + pins_start(cython.address(w)), pins * 8))
    return found
