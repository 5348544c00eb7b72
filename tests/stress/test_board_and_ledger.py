"""The words that outlive their writers: histograms, counters, and what the ledger allows."""
import random

import pytest

from stress import board as words
from stress.board import Board, bucket_of, ceiling_of, percentile
from stress.ledger import Ledger
from stress.violation import Violation


def test_every_latency_falls_below_the_ceiling_of_its_bucket():
    rng = random.Random(3)
    for ns in [0, 1, 15, 16, 31, 32, 33, *(rng.randrange(1 << rng.randrange(1, 40)) for _ in range(3000))]:
        bucket = bucket_of(ns)
        assert ns <= ceiling_of(bucket) <= ns * 17 / 16 + 1
        assert bucket == 0 or ceiling_of(bucket - 1) < ns


def test_a_latency_beyond_all_buckets_is_in_the_last():
    assert bucket_of(1 << 60) == words.BUCKETS - 1


def test_percentiles():
    buckets = [0] * words.BUCKETS
    assert percentile(buckets, 0.5) == 0
    for ns in range(1, 1001):
        buckets[bucket_of(ns)] += 1
    assert 500 <= percentile(buckets, 0.5) <= 532 and 1000 <= percentile(buckets, 1.0) <= 1063


def test_a_row_is_seen_through_another_mapping(tmp_path):
    board = Board(str(tmp_path), rows=2)
    other = Board(str(tmp_path))
    board.rows[1].count("get", 100)
    other.rows[0].count("get", 100)
    assert other.total(words.OPS) == 2 and sum(board.histogram("get")) == 2 and len(other.rows) == 2
    board.close()
    other.close()


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(str(tmp_path), 2)
    yield made
    made.close()


def refused(call, *arguments):
    with pytest.raises(Violation) as caught:
        call(*arguments)
    return caught.value.kind


def test_a_settled_handle_is_as_it_was_left(ledger):
    version = ledger.begin(0, True)
    ledger.end(0, True)
    ledger.settle(0, version, "h")
    assert refused(ledger.settle, 0, 0, "h") == "lost"
    assert refused(ledger.settle, 0, version + 1, "h") == "stale"


def test_a_dead_writer_leaves_before_or_after(ledger):
    first = ledger.begin(0, True)
    ledger.end(0, True)
    second = ledger.begin(0, True)          # and is killed
    ledger.settle(0, first, "h")
    third = ledger.begin(0, True)
    assert third > second                   # a version is never used twice
    ledger.settle(0, third, "h")
    ledger.begin(0, False)                  # a flush, killed
    ledger.settle(0, 0, "h")
    assert refused(ledger.settle, 0, third, "h") == "stale"


def test_a_refused_put_leaves_no_page(ledger):
    ledger.begin(0, True)
    ledger.end(0, False)
    ledger.settle(0, 0, "h")


def test_a_reader_knows_its_bounds(ledger):
    one = ledger.begin(0, True)
    ledger.end(0, True)
    before = ledger.before(0)
    ledger.judge(0, before, one, "h")
    assert refused(ledger.judge, 0, before, 0, "h") == "lost"
    two = ledger.begin(0, True)
    ledger.judge(0, before, one, "h")
    ledger.judge(0, before, two, "h")
    ledger.end(0, True)
    ledger.judge(0, before, two, "h")
    assert refused(ledger.judge, 0, ledger.before(0), one, "h") == "stale"
    assert refused(ledger.judge, 0, ledger.before(0), two + 1, "h") == "zombie"
    ledger.begin(0, False)
    ledger.judge(0, ledger.before(0), 0, "h")
    ledger.end(0, False)
    assert refused(ledger.judge, 0, ledger.before(0), two, "h") == "stale"
