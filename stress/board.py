"""Owns the scoreboard of a run: one mapped file of 64-bit words that outlives every process that
writes it.

A row per guest holds its counters and its latency histograms, written by that guest alone; the
control row is written as its table says. A guest killed at any instant loses nothing it had
counted. The file lies in the run's folder, not in /dev/shm. Supervisor and guests open the board by
path. Calls mmap.
"""
from __future__ import annotations

import mmap
import os
from pathlib import Path

# Control row: word, and who writes it.
START = 0               # monotonic ns at which the guests began          the first guest
STOP = 1                # not 0: end now (1: time is up, 2: a violation)  anybody
STOPS_BEGUN = 2         # SIGSTOPs sent                                   the killer of the crash scenario
STOPS_ENDED = 3         # SIGCONTs that have taken effect                 the killer
KILLS = 4               # SIGKILLs sent                                   the killer
SPAWN_KILLS = 5         # SIGKILLs sent to processes of the crew          the supervisor
CONTROL_WORDS = 64

# Guest row: counters.
PID, OPS, HITS, MISSES, REFUSED, BYTES, WAIT_MAX, WAIT_MAX_STOPPED, FORKS, INCARNATIONS = range(10)
COUNTER_WORDS = 16

KINDS = ("put", "get", "view", "put_range", "get_range", "flush", "pool", "fork", "check", "copy")
KIND = {kind: number for number, kind in enumerate(KINDS)}

SUB_BUCKETS = 16        # buckets per power of two: a percentile is at most 1/16 too high
OCTAVES = 36            # up to 2^40 ns, 18 minutes
BUCKETS = SUB_BUCKETS * (OCTAVES + 1)
ROW_WORDS = COUNTER_WORDS + len(KINDS) * BUCKETS


def bucket_of(ns: int) -> int:
    """The bucket of a latency."""
    if ns < SUB_BUCKETS:
        return ns if ns > 0 else 0
    shift = ns.bit_length() - 5
    bucket = shift * SUB_BUCKETS + (ns >> shift)
    return bucket if bucket < BUCKETS else BUCKETS - 1


def ceiling_of(bucket: int) -> int:
    """The largest latency that falls into a bucket."""
    if bucket < SUB_BUCKETS:
        return bucket
    shift = bucket // SUB_BUCKETS - 1
    return (bucket - shift * SUB_BUCKETS + 1 << shift) - 1


def percentile(buckets, fraction: float) -> int:
    """The latency that `fraction` of the calls stayed within, 0 if there were none."""
    total = sum(buckets)
    if not total:
        return 0
    wanted, seen = fraction * total, 0
    for bucket, count in enumerate(buckets):
        seen += count
        if seen >= wanted:
            return ceiling_of(bucket)
    return ceiling_of(len(buckets) - 1)


class Row:
    """The words of one guest."""

    def __init__(self, words: memoryview):
        self.words = words

    def count(self, kind: str, ns: int) -> None:
        """One call of `kind` took `ns`."""
        words = self.words
        words[OPS] += 1
        words[COUNTER_WORDS + KIND[kind] * BUCKETS + bucket_of(ns)] += 1

    def histogram(self, kind: str) -> list[int]:
        at = COUNTER_WORDS + KIND[kind] * BUCKETS
        return self.words[at:at + BUCKETS].tolist()

    def __getitem__(self, word: int) -> int:
        return self.words[word]

    def __setitem__(self, word: int, value: int) -> None:
        self.words[word] = value


class Words:
    """A mapped file of 64-bit words, all 0 at first."""

    def __init__(self, path: Path, count: int = 0):
        flags = os.O_RDWR | (os.O_CREAT if count else 0)
        fd = os.open(path, flags, 0o600)
        try:
            if count:
                os.ftruncate(fd, count * 8)
            self._map = mmap.mmap(fd, 0)
        finally:
            os.close(fd)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("Q")

    def close(self) -> None:
        self.words.release()
        self._bytes.release()
        self._map.close()


class Board(Words):
    """The scoreboard: a control row, then `rows` rows of guests."""

    NAME = "board"

    def __init__(self, folder: str, rows: int = 0):
        super().__init__(Path(folder) / self.NAME, CONTROL_WORDS + rows * ROW_WORDS if rows else 0)
        count = (len(self.words) - CONTROL_WORDS) // ROW_WORDS
        self.control = self.words[:CONTROL_WORDS]
        self.rows = [Row(self.words[at:at + ROW_WORDS])
                     for at in range(CONTROL_WORDS, CONTROL_WORDS + count * ROW_WORDS, ROW_WORDS)]

    def total(self, word: int) -> int:
        return sum(row[word] for row in self.rows)

    def histogram(self, kind: str) -> list[int]:
        return [sum(column) for column in zip(*(row.histogram(kind) for row in self.rows), strict=True)]

    def close(self) -> None:
        self.control.release()
        for row in self.rows:
            row.words.release()
        super().close()
