"""Owns how large the engine's regions of an arena are, and which geometry is possible."""
import cython
from cython.cimports.engine.layout.structs import (
    BUCKET_BYTES,
    CLIENT_PAGE,
    DEAD_BYTES,
    DEAD_RING_BYTES,
    ENGINE_LAYOUT_VERSION,
    FAR_BYTES,
    FAR_NODE_BYTES,
    LEASE_BUCKET_BYTES,
    LEASE_BUCKETS,
    LEASE_BYTES,
    LEDGER_BYTES,
    LEDGER_WORDS,
    MAP_SHIFT,
    MAP_SIZE,
    OBJ_CLASS,
    OBJNODE_CLASS,
    PAMPD_CLASS,
    PINS_MAX,
    POOL_BYTES,
    QUEUE_BYTES,
    SHARD_BYTES,
    SHARDS_MAX,
    TWIN_BUCKET_BYTES,
    Bucket,
    ClientPage,
    ClientRecord,
    Dead,
    DeadRing,
    FarNode,
    FarRecord,
    Lease,
    LeaseBucket,
    Obj,
    Objnode,
    Pampd,
    PoolRecord,
    Queue,
    Shard,
    Stem,
    Twin,
    TwinBucket,
)
from cython.cimports.shm.layout import SYS_PAGE
from shm.arena import assert_sizes
from shm.segments import sizes

CHUNK = sizes()

# Every struct that lies in an arena: its size, and the constant or the size of chunk that it must
# fill. What stands here is part of the layout's number.
SIZES = {
    "ClientRecord": (cython.sizeof(ClientRecord), 32),
    "ClientPage": (cython.sizeof(ClientPage), 4000),    # of CLIENT_PAGE; the rest is spare
    "PoolRecord": (cython.sizeof(PoolRecord), POOL_BYTES),
    "Bucket": (cython.sizeof(Bucket), BUCKET_BYTES),
    "Shard": (cython.sizeof(Shard), SHARD_BYTES),
    "Queue": (cython.sizeof(Queue), QUEUE_BYTES),
    "TwinBucket": (cython.sizeof(TwinBucket), TWIN_BUCKET_BYTES),
    "Twin": (cython.sizeof(Twin), CHUNK[PAMPD_CLASS]),
    "Pampd": (cython.sizeof(Pampd), CHUNK[PAMPD_CLASS]),
    "Obj": (cython.sizeof(Obj), CHUNK[PAMPD_CLASS]),
    "Stem": (cython.sizeof(Stem), CHUNK[OBJ_CLASS] - CHUNK[PAMPD_CLASS]),
    "Objnode": (cython.sizeof(Objnode), CHUNK[OBJNODE_CLASS]),
    "Lease": (cython.sizeof(Lease), LEASE_BYTES),
    "LeaseBucket": (cython.sizeof(LeaseBucket), LEASE_BUCKET_BYTES),
    "FarNode": (cython.sizeof(FarNode), FAR_NODE_BYTES),
    "FarRecord": (cython.sizeof(FarRecord), FAR_BYTES),
    "Dead": (cython.sizeof(Dead), DEAD_BYTES),
    "DeadRing": (cython.sizeof(DeadRing), DEAD_RING_BYTES),
}
# What is no struct of its own, or a constant that follows from another.
FOLLOWS = {
    "a ledger": (LEDGER_WORDS * 8 + 16, LEDGER_BYTES),      # two words are spare
    "MAP_SIZE": (MAP_SIZE, 1 << MAP_SHIFT),
    "CLIENT_PAGE": (CLIENT_PAGE, SYS_PAGE),
    "a page of lease buckets for each bit of a word": (LEASE_BUCKETS * LEASE_BUCKET_BYTES, 64 * CLIENT_PAGE),
}
assert_sizes(SIZES | FOLLOWS)

CLIENT_LAYOUT = f"engine {ENGINE_LAYOUT_VERSION} {' '.join(f'{name} {size}' for name, (size, _) in SIZES.items())}"


def shards_start(max_pools, buckets, shards):
    """Where in the client region the page of the shards is; what lies where is in regions.pxd."""
    records = _round_up(CLIENT_PAGE + max_pools * POOL_BYTES)
    return _round_up(records + max_pools * buckets * BUCKET_BYTES + max_pools * shards * QUEUE_BYTES)


def client_bytes(max_pools, buckets, shards, ghosts, twins):
    """Size of the client region."""
    ghosts_end = _round_up(shards_start(max_pools, buckets, shards) + CLIENT_PAGE + shards * ghosts * 8)
    leases = _round_up(ghosts_end + twins * TWIN_BUCKET_BYTES)
    return leases + LEASE_BUCKETS * LEASE_BUCKET_BYTES + _round_up(max_pools * FAR_BYTES) + DEAD_RING_BYTES


def ledger_bytes(max_pools):
    """Size of one worker's ledgers and pins."""
    return _round_up(max_pools * LEDGER_BYTES) + PINS_MAX * 8


def _round_up(size):
    return (size + CLIENT_PAGE - 1) // CLIENT_PAGE * CLIENT_PAGE


def is_possible(geometry):
    """True if what a header says of an arena can be true, as far as this layer's regions go."""
    page_size, buckets, max_pools, shards, ghosts, twins = geometry["client"][:6]
    return (
        page_size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
        and 1 <= buckets <= 4096 and buckets & (buckets - 1) == 0
        and 1 <= max_pools <= 65535
        and 1 <= shards <= SHARDS_MAX and shards & (shards - 1) == 0
        and 64 <= ghosts <= 1 << 40 and ghosts & (ghosts - 1) == 0
        and 16 <= twins <= 1 << 40 and twins & (twins - 1) == 0
        and client_bytes(max_pools, buckets, shards, ghosts, twins) <= geometry["client_bytes"]
        and geometry["bounce_bytes"] >= page_size
        and geometry["ledger_bytes"] >= ledger_bytes(max_pools)
    )
