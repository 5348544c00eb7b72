"""Owns what a snapshot begins with: written once, read and checked, and what a later version may
add.

A head is 32 bytes and a text in JSON. The number of the format rises when an older reader would
read wrong what is written; then it refuses the file. What an older reader can do without is a new
key in the text, a new bit in `notes`, or spare bytes: it does not look at them.
"""
import json
import os
import struct

from xxhash import xxh3_64_intdigest

from engine.errors import SnapshotDamaged, SnapshotVersionMismatch

MAGIC = b"tmem\x00snp"
FORMAT = 1
START = struct.Struct("<8sIIQQ")        # magic, format, bytes of the text, id, sum
TEXT_MAX = 64 << 20
# What a head says of each pool, and of which type.
POOL_KEYS = {"name": str, "persistent": bool, "shared": bool, "dedup": bool, "whole": bool, "page_size": int,
             "pam": str, "policy": str, "cap": int, "cap_bytes": int, "client": int, "bytes": int}
KEYS = {"saved": int, "secret": int, "nonce": int, "page_size": int, "capacity": int, "pools": list}


def write_head(said):
    """The bytes of a head that says these things, and its id, with which all sums begin."""
    text = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    id = int.from_bytes(os.urandom(8), "little")
    start = START.pack(MAGIC, FORMAT, len(text), id, 0)
    return start[:24] + struct.pack("<Q", _sum(start, text, id)) + text, id


def _sum(start, text, id):
    return xxh3_64_intdigest(start[:24] + text, id)


def read_head(read, where):
    """What a head says, and its id. `read` gives so many bytes of the stream, or all there are.
    SnapshotDamaged, SnapshotVersionMismatch."""
    start = read(START.size)
    if len(start) < START.size or start[:8] != MAGIC:
        raise SnapshotDamaged(f"{where}: not a snapshot")
    _, form, size, id, total = START.unpack(start)
    if form != FORMAT:
        raise SnapshotVersionMismatch(
            f"{where}: a snapshot of format {form}, and this version of the package reads format {FORMAT}; restore it "
            "with the version that made it, or a later one"
        )
    text = read(size) if size <= TEXT_MAX else b""
    if len(text) != size or _sum(start, text, id) != total:
        raise SnapshotDamaged(f"{where}: its head is damaged, so nothing of it can be read")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SnapshotDamaged(f"{where}: its head is no text that can be read ({error})") from None
    _check(said, where)
    return said, id


def _check(said, where):
    """SnapshotDamaged unless a head says all that is needed; whether it can be is asked by what
    makes pools of it."""
    def refuse(what):
        raise SnapshotDamaged(f"{where}: its head says nothing usable of {what}")

    if not isinstance(said, dict):
        refuse("anything")
    for key, kind in KEYS.items():
        if type(said.get(key)) is not kind or (kind is int and not 0 <= said[key] < 1 << 64):
            refuse(key)
    if type(said.get("max_age")) not in (int, float, type(None)):
        refuse("max_age")
    for pool in said["pools"]:
        for key, kind in POOL_KEYS.items():
            if not isinstance(pool, dict) or type(pool.get(key)) is not kind or (kind is int and pool[key] < 0):
                refuse(f"a pool's {key}")
        allow = pool.get("allow")
        if allow is not None and (type(allow) is not list or not all(type(one) is int for one in allow)):
            refuse("a pool's allow")
