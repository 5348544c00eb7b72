"""Owns the cache of models' answers, and the store, for LangChain:
set_llm_cache(TmemCache("shop")).

The async methods are carried out where they are called: that takes less time than telling a thread
to, as the bases would.
"""
import hashlib

from langchain_core.caches import BaseCache
from langchain_core.stores import BaseStore

from tmem.opening import open_cache


def _digest(text):
    """What stands for a text, which may be a whole conversation, in a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class TmemCache(BaseCache):
    """Answers of models, which all processes of the machine share.

    arena: the name of one, which is made at the first call if it is not there. name: of the cache
    in the arena. ttl: how long an answer stays, seconds or a timedelta; None: as long as there is
    room. options: of engine.Cache, as capacity="256MiB"."""

    def __init__(self, arena, name="langchain", *, ttl=None, **options):
        self._cache = open_cache(arena, name, ttl=ttl, **options)

    def lookup(self, prompt, llm_string):
        return self._cache.get((_digest(prompt), _digest(llm_string)))

    def update(self, prompt, llm_string, return_val):
        self._cache.set((_digest(prompt), _digest(llm_string)), return_val)

    def clear(self, **kwargs):
        """Drop all answers."""
        self._cache.clear()

    async def alookup(self, prompt, llm_string):
        return self.lookup(prompt, llm_string)

    async def aupdate(self, prompt, llm_string, return_val):
        self.update(prompt, llm_string, return_val)

    async def aclear(self, **kwargs):
        self.clear()


class TmemStore(BaseStore):
    """Values under strings, which all processes of the machine share; bytes are kept as they are,
    as CacheBackedEmbeddings puts them. The arguments are those of TmemCache."""

    def __init__(self, arena, name="langchain store", *, ttl=None, **options):
        self._cache = open_cache(arena, name, ttl=ttl, **options)

    def mget(self, keys):
        return [self._cache.get(key) for key in keys]

    def mset(self, key_value_pairs):
        self._cache.set_many(key_value_pairs)

    def mdelete(self, keys):
        self._cache.delete_many(keys)

    def yield_keys(self, *, prefix=None):
        for key in self._cache:
            if prefix is None or key.startswith(prefix):
                yield key

    async def amget(self, keys):
        return self.mget(keys)

    async def amset(self, key_value_pairs):
        self.mset(key_value_pairs)

    async def amdelete(self, keys):
        self.mdelete(keys)

    async def ayield_keys(self, *, prefix=None):
        for key in self.yield_keys(prefix=prefix):
            yield key
