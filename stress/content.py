"""Owns the bytes of every page the harness puts: handle, version and seed expand to a whole page,
and back.

A page is `head + noise + head`. The head (56 bytes) says which handle, version, length and seed
this page is of; the noise is a slice of one fixed block of random bytes, taken at an offset that is
a hash of the head. Building a page is one pack, one hash and one copy; verifying it is building it
again and comparing every byte. A page that mixes two versions shows at the heads, or at the noise
unless both versions hash to the same offset (1 in 131,072).

Calls xxhash.
"""
from __future__ import annotations

import random
from struct import Struct

from xxhash import xxh3_64_intdigest

from stress.violation import Violation

MAGIC = b"tmempage"
HEAD = Struct("<8s6Q")          # magic, three words of the oid, index, version, length << 32 | seed
HEAD_BYTES = HEAD.size
MIN_BYTES = 2 * HEAD_BYTES      # a shorter page could not carry both heads
NOISE_BYTES = 1 << 17           # a power of two: the offset is a mask away

Oid = tuple[int, int, int]


class Content:
    """Makes and verifies the pages of one run. Two runs with the same seed make the same pages."""

    def __init__(self, seed: int, page_size: int):
        self.page_size = page_size
        self._seed = seed & 0xFFFFFFFF
        self._noise = random.Random(seed).randbytes(NOISE_BYTES + page_size)

    def page(self, oid: Oid, index: int, version: int, length: int = 0) -> bytes:
        """The bytes of `version` of a handle; `length` 0 means a whole page."""
        length = length or self.page_size
        if not MIN_BYTES <= length <= self.page_size:
            raise ValueError(f"length: {MIN_BYTES} to {self.page_size}, not {length}")
        head = HEAD.pack(MAGIC, *oid, index, version, length << 32 | self._seed)
        start = xxh3_64_intdigest(head) & (NOISE_BYTES - 1)
        return head + self._noise[start:start + length - MIN_BYTES] + head

    def verify(self, data: bytes, oid: Oid, index: int, where: str = "") -> int:
        """Check every byte; the answer is the version. Anything else raises `Violation`."""
        where = where or describe(oid, index)
        if len(data) < MIN_BYTES:
            raise Violation("damaged", where, f"{len(data)} bytes, a page has at least {MIN_BYTES}")
        magic, a, b, c, got_index, version, tail = HEAD.unpack_from(data)
        if magic != MAGIC:
            raise Violation("damaged", where, f"starts with {data[:8]!r}, not {MAGIC!r}")
        if (a, b, c) != tuple(oid) or got_index != index:
            raise Violation("foreign", where, f"holds a page of {describe((a, b, c), got_index)}")
        if tail & 0xFFFFFFFF != self._seed:
            raise Violation("foreign", where, f"holds a page of seed {tail & 0xFFFFFFFF}, not {self._seed}")
        length = tail >> 32
        if length != len(data):
            raise Violation("damaged", where, f"{len(data)} bytes came back, {length} were put")
        expected = self.page((a, b, c), index, version, length)
        if data != expected:
            raise Violation("damaged", where, _difference(data, expected, version))
        return version

    def pages(self, oid: Oid, index: int, count: int, version: int, last: int = 0) -> bytes:
        """`count` pages of one version in a row; the last one may be shorter."""
        whole = [self.page(oid, index + n, version) for n in range(count - 1)]
        return b"".join(whole) + self.page(oid, index + count - 1, version, last)

    def verify_pages(self, data: bytes, oid: Oid, index: int, count: int, where: str = "") -> int:
        """Check every byte of a range and that all its pages are of one version; the answer is that
        version."""
        size, versions = self.page_size, []
        for n in range(count):
            versions.append(self.verify(data[n * size:(n + 1) * size], oid, index + n, where))
        if len(data) > count * size:
            raise Violation("damaged", where, f"{len(data)} bytes for {count} pages")
        if len(set(versions)) != 1:
            raise Violation("torn", where or describe(oid, index), f"one range with versions {versions}")
        return versions[0]


def describe(oid: Oid, index: int) -> str:
    """A handle as it is printed."""
    return f"oid ({oid[0]}, {oid[1]}, {oid[2]}) index {index}"


def _difference(data: bytes, expected: bytes, version: int) -> str:
    first = next(n for n, (a, b) in enumerate(zip(data, expected, strict=True)) if a != b)
    count = sum(a != b for a, b in zip(data, expected, strict=True))
    text = f"{count} wrong bytes, the first at {first}"
    magic, *_, other, _ = HEAD.unpack_from(data, len(data) - HEAD_BYTES)
    if magic == MAGIC and other != version:
        text += f": begins as version {version}, ends as version {other}"
    return text
