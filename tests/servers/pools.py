"""Owns what the tests of tiers on servers do with pools."""
from tests.contract.fars import PAGE, content, get

PAGES = 1100


def make(make_arena, target, **how):
    """A pool of which about a third of PAGES pages will be far."""
    return make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4, max_workers=16).new_pool(
        "p", far=target, **how)


def assert_all_there(pool, pages=PAGES):
    assert [n for n in range(pages) if get(pool, n) != content(n)] == []


def answers(pool, pages=PAGES):
    """How many pages are had; none of them is wrong."""
    found = [get(pool, n) for n in range(pages)]
    assert all(page in (None, content(n)) for n, page in enumerate(found))
    return sum(page is not None for page in found)
