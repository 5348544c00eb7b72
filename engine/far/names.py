"""Owns how a far page is called, and how its bytes are sealed.

A name is never used twice: it is the arena's nonce, which no two arenas share, and the generation
of the page, which no two pages of an arena share. So what a tier has under a name never changes,
and nothing that is put, flushed or evicted meanwhile can make it wrong. Pages are given to a tier
sealed (batch.py): behind the bytes stands the XXH3 of name, handle and bytes, 64 bits. What comes
back with another sum was never given.
"""
import struct

from xxhash import xxh3_64_intdigest

NAME = struct.Struct("<QQ")
HANDLE = struct.Struct("<QQQQQ")
SUM = struct.Struct("<Q")
SEAL_BYTES = SUM.size


def name_of(nonce: int, gen: int) -> bytes:
    """The name of a page in every tier."""
    return NAME.pack(nonce, gen)


def handle_of(pool: int, oid: tuple[int, int, int], index: int) -> bytes:
    """The handle of a page, for its seal: `pool` is the mark of the pool."""
    return HANDLE.pack(pool, *oid, index)


def opened(name: bytes, handle: bytes, value: bytes, length: int) -> bytes | None:
    """The bytes of a page, `length` of them; None: what the tier has given is not that page."""
    if len(value) != length + SEAL_BYTES:
        return None
    data = value[:length]
    return data if SUM.unpack(value[length:])[0] == xxh3_64_intdigest(b"".join((name, handle, data))) else None
