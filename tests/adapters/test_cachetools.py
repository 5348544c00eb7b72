"""Owns a cache under the decorators of cachetools, which take any mapping."""
import pytest

cachetools = pytest.importorskip("cachetools")

import tmem  # noqa: E402
from tests.adapters.standing import PROCESSES, run_together  # noqa: E402
from tests.stopped import in_child  # noqa: E402


def decorated(cache, **said):
    calls = tmem.Cache(cache.arena, "calls")

    @cachetools.cached(cache=cache, **said)
    def area(code, *, unit="km"):
        calls.incr("calls")
        return {"code": code, "unit": unit}

    return area, calls


def test_processes_share_the_answers(arena_name):
    area, calls = decorated(tmem.Cache(arena_name, "areas", ttl=60, capacity="4MiB"))
    assert area(49) == {"code": 49, "unit": "km"} and area(49, unit="mi")["unit"] == "mi"

    def child():
        assert area(49) == {"code": 49, "unit": "km"} and area(49, unit="mi")["unit"] == "mi"

    assert in_child(child) == 0
    assert calls["calls"] == 2


def ask(n, area):
    for turn in range(50):
        assert area(turn % 5) == {"code": turn % 5, "unit": "km"}


def test_many_at_once(arena_name):
    area, calls = decorated(tmem.Cache(arena_name, "areas"))
    assert run_together(PROCESSES, ask, area) == [0] * PROCESSES
    assert 5 <= calls["calls"] <= 5 * PROCESSES


def test_its_counts_and_its_clear(arena_name):
    area, _ = decorated(tmem.Cache(arena_name, "areas"), info=True)
    area(1)
    area(1)
    assert area.cache_info()[:2] == (1, 1)
    area.cache_clear()
    assert len(area.cache) == 0


def test_an_argument_that_no_other_process_can_name_is_refused(arena_name):
    area, _ = decorated(tmem.Cache(arena_name, "areas"))
    with pytest.raises(TypeError):
        area(object())


def test_methods(arena_name):
    class Shop:
        def __init__(self, name):
            self.name = name
            self.cache = tmem.Cache(arena_name, name)

        @cachetools.cachedmethod(lambda self: self.cache)
        def prices(self, day):
            return self.name, day

    assert Shop("one").prices(1) == Shop("one").prices(1) == ("one", 1) and Shop("other").prices(1) == ("other", 1)
