"""Owns tmem.langchain beyond what LangChain's standard tests ask: settings, long prompts, times to
live, a model that is asked once by all processes."""
import asyncio

import pytest

pytest.importorskip("langchain_core")

from langchain_core.globals import set_llm_cache  # noqa: E402
from langchain_core.language_models import FakeListLLM  # noqa: E402
from langchain_core.outputs import Generation  # noqa: E402

from engine import Cache  # noqa: E402
from tests.adapters.standing import Kind, standing_of  # noqa: E402
from tests.stopped import in_child  # noqa: E402
from tmem.langchain import TmemCache, TmemStore  # noqa: E402


def make(arena):
    return TmemStore(arena)


def put(store, key, value):
    store.mset([(key, value)])


def got(store, key):
    return store.mget([key])[0]


KIND = Kind(make, put, got)


@pytest.mark.parametrize("check", standing_of(KIND), ids=lambda check: check.__name__)
def test_it_stands(check, arena_name, monkeypatch):
    check(KIND, arena_name, monkeypatch)


@pytest.mark.parametrize("kind", [TmemCache, TmemStore])
@pytest.mark.parametrize("wrong, said", [
    (dict(arena=""), "^arena: the name of an arena"), (dict(arena="x", ttl="soon"), "^ttl: "),
    (dict(arena="x", redis_url="y"), "^options: .*'redis_url'"),
])
def test_a_bad_argument_is_named(kind, wrong, said):
    with pytest.raises(TypeError, match=said):
        kind(**wrong)


def test_a_model_is_asked_once_by_all_processes(arena_name):
    set_llm_cache(TmemCache(arena_name))
    try:
        assert in_child(lambda: FakeListLLM(responses=["first"]).invoke("question")) == 0
        assert FakeListLLM(responses=["first"]).invoke("question") == "first"
        kept = Cache(arena_name, "langchain")
        assert len(kept) == 1 and kept.stats()["hits"] >= 1
    finally:
        set_llm_cache(None)


def test_a_prompt_may_be_longer_than_a_key(arena_name):
    cache = TmemCache(arena_name)
    long, other = "x" * (2 << 20), "x" * (2 << 20) + "y"
    cache.update(long, "model", [Generation(text="a")])
    assert cache.lookup(long, "model") == [Generation(text="a")]
    assert cache.lookup(other, "model") is None and cache.lookup(long, "another") is None
    cache.update("half a pair: \ud800", "model", [Generation(text="b")])
    assert cache.lookup("half a pair: \ud800", "model") == [Generation(text="b")]


def test_an_answer_lives_as_long_as_it_is_said(arena_name):
    cache = TmemCache(arena_name, ttl=60)
    asyncio.run(cache.aupdate("prompt", "model", [Generation(text="a")]))
    kept = Cache(arena_name, "langchain")
    assert 50 < kept.expires(next(iter(kept))) <= 60
    assert asyncio.run(cache.alookup("prompt", "model")) == [Generation(text="a")]
    asyncio.run(cache.aclear())
    assert len(kept) == 0


def test_names_are_stores_of_their_own(arena_name):
    one, other = TmemStore(arena_name), TmemStore(arena_name, "other")
    one.mset([("k", b"1")])
    other.mset([("k", b"2"), ("l", b"3")])
    assert one.mget(["k", "l"]) == [b"1", None] and sorted(other.yield_keys()) == ["k", "l"]
