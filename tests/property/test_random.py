"""Owns seeded runs of random operations of modest size; million.py is the long one."""
import random

import pytest

from tests.property.twin import Twins, random_steps


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_answer_as_a_dictionary(make_arena, seed):
    twins = Twins(make_arena(capacity="64MiB", buckets=(1, 4, 64)[seed % 3]))
    random_steps(twins, random.Random(seed), 15_000)
    twins.compare_all()


@pytest.mark.parametrize("pam", ["raw", "lz4"])
def test_random_operations_on_pages_of_equal_content(make_arena, pam):
    twins = Twins(make_arena(capacity="64MiB", buckets=4), pam, dedup=True)
    random_steps(twins, random.Random(pam), 15_000)
    assert 0 < twins.eng.stats()["arena"]["twins"] < twins.eng.stats()["total"]["pages"] // 2
    twins.compare_all()


@pytest.mark.parametrize("pam", ["lz4", "zstd"])
def test_random_operations_on_compressed_pages(make_arena, pam):
    twins = Twins(make_arena(capacity="64MiB", buckets=4), pam)
    random_steps(twins, random.Random(pam), 15_000)
    twins.compare_all()
