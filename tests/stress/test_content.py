"""Pages that verify themselves: every byte counts."""
import random

import pytest

from stress.content import MIN_BYTES, Content
from stress.violation import Violation

OID = (1, 2 ** 64 - 1, 3)
CONTENT = Content(seed=5, page_size=512)


def kind_of(data, oid=OID, index=9):
    with pytest.raises(Violation) as caught:
        CONTENT.verify(data, oid, index)
    return caught.value.kind


@pytest.mark.parametrize("length", [MIN_BYTES, MIN_BYTES + 1, 200, 511, 512])
def test_a_page_comes_back_as_its_version(length):
    page = CONTENT.page(OID, 9, 77, length)
    assert len(page) == length and CONTENT.verify(page, OID, 9) == 77


def test_a_whole_page_is_the_default():
    assert len(CONTENT.page(OID, 0, 1)) == 512


@pytest.mark.parametrize("length", [1, MIN_BYTES - 1, 513])
def test_impossible_lengths_are_refused(length):
    with pytest.raises(ValueError, match="length"):
        CONTENT.page(OID, 0, 1, length)


def test_any_flipped_bit_is_noticed():
    page, rng = CONTENT.page(OID, 9, 77), random.Random(1)
    for at in range(len(page)):
        wrong = bytearray(page)
        wrong[at] ^= 1 << rng.randrange(8)
        with pytest.raises(Violation):
            CONTENT.verify(bytes(wrong), OID, 9)


def test_pages_of_other_handles_seeds_and_lengths_are_foreign_or_damaged():
    assert kind_of(CONTENT.page(OID, 8, 77)) == "foreign"
    assert kind_of(CONTENT.page((1, 2, 3), 9, 77)) == "foreign"
    assert kind_of(Content(6, 512).page(OID, 9, 77)) == "foreign"
    assert kind_of(CONTENT.page(OID, 9, 77)[:-1]) == "damaged"
    assert kind_of(b"") == "damaged" and kind_of(bytes(512)) == "damaged"


def test_a_page_made_of_two_versions_is_noticed_wherever_the_seam_is():
    old, new = CONTENT.page(OID, 9, 1), CONTENT.page(OID, 9, 2)
    for seam in range(41, 512 - 15):    # before and beyond, the two pages are the same bytes
        assert kind_of(new[:seam] + old[seam:]) == "damaged"


def test_a_range_is_of_one_version():
    whole = CONTENT.pages(OID, 9, 3, 4, last=200)
    assert len(whole) == 2 * 512 + 200 and CONTENT.verify_pages(whole, OID, 9, 3) == 4
    torn = whole[:512] + CONTENT.page(OID, 10, 5) + whole[1024:]
    with pytest.raises(Violation) as caught:
        CONTENT.verify_pages(torn, OID, 9, 3)
    assert caught.value.kind == "torn"
    with pytest.raises(Violation):
        CONTENT.verify_pages(whole + b"x" * 400, OID, 9, 3)


def test_the_same_seed_makes_the_same_pages():
    assert Content(5, 512).page(OID, 1, 2) == CONTENT.page(OID, 1, 2) != Content(6, 512).page(OID, 1, 2)
