"""Owns where every word of an arena lies: structs and constants as the .pxd files declare them,
regions as the header says.

Read from the source, so that a change of a layout changes the attack with it. Structs of the
process (with pointers in them) are left out.
"""
import re
import struct

from shm.arena import regions
from tests.support import ROOT

TYPES = {"u64": 8, "char": 1}
_ENUM = re.compile(r"^ {4}([A-Z][A-Z0-9_]*) = (0x[0-9A-Fa-f]+|\d+)\b")
_STRUCT = re.compile(r"^cdef struct (\w+):")
_FIELD = re.compile(r"^ {4}(\w+) (\w+)(?:\[(\w+)\])?\s*(?:#.*)?$")

CONSTANTS = {}
STRUCTS = {}        # name -> {field: (offset, size of one, how many)}
SIZES = {}


def _read(text):
    name = None
    for line in text.splitlines():
        found = _ENUM.match(line)
        if found:
            CONSTANTS[found[1]] = int(found[2], 0)
        found = _STRUCT.match(line)
        if found:
            name = found[1]
            STRUCTS[name], SIZES[name] = {}, 0
        elif line and not line.startswith(" "):
            name = None
        elif name and line.strip() and not line.lstrip().startswith("#"):
            found = _FIELD.match(line)
            size = found and (TYPES.get(found[1]) or SIZES.get(found[1]))
            if not size:
                del STRUCTS[name], SIZES[name]
                name = None
                continue
            count = int(CONSTANTS.get(found[3], found[3] or 1))
            STRUCTS[name][found[2]] = (SIZES[name], size, count)
            SIZES[name] += size * count


for _name in ("shm/layout.pxd", "engine/layout/structs.pxd", "engine/layout/words.pxd", "engine/layout/call.pxd"):
    _read((ROOT / _name).read_text())


def words_of(name):
    """Offsets of all words of a struct."""
    return range(0, SIZES[name], 8)


def offset(name, field, i=0):
    at, size, _ = STRUCTS[name][field]
    return at + i * size


def geometry(header):
    """Header fields by name, from the first page of an arena."""
    found = {}
    for field, (at, _, count) in STRUCTS["Header"].items():
        words = struct.unpack_from(f"<{count}Q", header, at)
        found[field] = words[0] if count == 1 else list(words)
    return found


class Map:
    """Where things lie in one arena."""

    def __init__(self, header):
        c = CONSTANTS
        g = geometry(header)
        self.geometry = g
        self.where = regions(g)
        self.workers = g["max_workers"]
        self.page_size, self.buckets, self.pools = g["client"][:3]
        self.depot = c["SYS_PAGE"]
        self.table = self.where["client"]
        self.records = self.table + c["CLIENT_PAGE"]
        end = self.records + self.pools * c["POOL_BYTES"]
        self.bucket_arrays = -(-end // c["CLIENT_PAGE"]) * c["CLIENT_PAGE"]
        self.seg_bytes = 1 << g["seg_shift"]
        self.shards = g["client"][3]
        self.queues = self.bucket_arrays + self.pools * self.buckets * c["BUCKET_BYTES"]
        end = self.queues + self.pools * self.shards * c["QUEUE_BYTES"]
        self.shard_array = -(-end // c["CLIENT_PAGE"]) * c["CLIENT_PAGE"]
        end = self.shard_array + c["CLIENT_PAGE"] + self.shards * g["client"][4] * 8
        self.twin_array = -(-end // c["CLIENT_PAGE"]) * c["CLIENT_PAGE"]
        self.twin_buckets = g["client"][5]
        end = self.twin_array + self.twin_buckets * c["TWIN_BUCKET_BYTES"]
        self.lease_array = -(-end // c["CLIENT_PAGE"]) * c["CLIENT_PAGE"]
        self.far_array = self.lease_array + c["LEASE_BUCKETS"] * c["LEASE_BUCKET_BYTES"]
        end = self.far_array + self.pools * c["FAR_BYTES"]
        self.dead_ring = -(-end // c["CLIENT_PAGE"]) * c["CLIENT_PAGE"]

    def slot(self, i):
        return self.where["slots"] + i * CONSTANTS["SLOT_BYTES"]

    def journal(self, i):
        return self.where["journals"] + i * CONSTANTS["JOURNAL_BYTES"]

    def bounce(self, i):
        return self.where["bounces"] + i * self.geometry["bounce_bytes"]

    def ledger(self, i):
        return self.where["ledgers"] + i * self.geometry["ledger_bytes"]

    def segment(self, i):
        return self.where["segtable"] + i * SIZES["Segment"]

    def mark(self, at):
        """Byte, and bits to the right of it there, of the mark of a chunk of the first class."""
        number = (at - self.where["segments"]) // 64
        return self.where["marks"] + number // 4, number % 4 * 2

    def record(self, i):
        return self.records + i * CONSTANTS["POOL_BYTES"]

    def queue(self, pool, shard):
        return self.queues + (pool * self.shards + shard) * CONSTANTS["QUEUE_BYTES"]

    def shard(self, i):
        return self.shard_array + i * CONSTANTS["SHARD_BYTES"]

    def twin_bucket(self, i):
        return self.twin_array + i * CONSTANTS["TWIN_BUCKET_BYTES"]

    def lease_bucket(self, i):
        return self.lease_array + i * CONSTANTS["LEASE_BUCKET_BYTES"]

    def far_record(self, pool):
        return self.far_array + pool * CONSTANTS["FAR_BYTES"]

    def bucket(self, pool, i):
        return self.bucket_arrays + (pool * self.buckets + i) * CONSTANTS["BUCKET_BYTES"]
