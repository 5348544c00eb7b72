# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""Owns Object, the calls of a pool for one oid that is looked at once.

Each call fills a Call and hands it to the pool.
"""
import cython
import cython.cimports.engine.api.batch as batch
import cython.cimports.engine.api.ranges as ranges
import cython.cimports.engine.api.values as values
import cython.cimports.engine.api.views as views
import cython.cimports.engine.api.walks as walks
import cython.cimports.engine.api.writing as filling
from cython.cimports.engine.layout.call import Call
from cython.cimports.engine.member.arguments import aim, word
from cython.cimports.engine.member.bound import Bound
from cython.cimports.engine.oid import hash_oid, oid_words
from cython.cimports.shm.seal import seal


def open_object(pool: Bound, oid):
    """The Object of an oid in a pool."""
    found: Object = Object.__new__(Object)
    found.pool = pool
    oid_words(oid, found.words)
    found.hash = hash_oid(found.words[0], found.words[1], found.words[2])
    return found


@cython.cclass
class Object:
    """One object of a pool: the pool's calls without the oid. Made by Pool.object."""

    def handle(self, c, index):
        aim(c, self.words, self.hash, word("index", index))
        return 0

    def aim(self, c):
        aim(c, self.words, self.hash, 0)
        return 0

    @property
    def oid(self):
        """The object id, a tuple of three ints."""
        return (self.words[0], self.words[1], self.words[2])

    def put(self, index, data):
        """See Pool.put."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.put_buffer(cython.address(c), data)

    def get(self, index, free=None):
        """See Pool.get."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.get_call(cython.address(c), free)

    def get_into(self, index, buffer, free=None):
        """See Pool.get_into."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.get_into_call(cython.address(c), buffer, free)

    def put_range(self, index, buffer):
        """See Pool.put_range."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.put_range_call(cython.address(c), buffer)

    def get_range(self, index, count, free=None):
        """See Pool.get_range."""
        c: Call
        self.handle(cython.address(c), index)
        return ranges.get_range(self.pool, cython.address(c), count, free)

    def get_range_into(self, index, count, buffer, free=None):
        """See Pool.get_range_into."""
        c: Call
        self.handle(cython.address(c), index)
        return ranges.get_range_into(self.pool, cython.address(c), count, buffer, free)

    def view(self, index, count=None):
        """See Pool.view."""
        c: Call
        self.handle(cython.address(c), index)
        return views.view(self.pool, cython.address(c), count)

    def writing(self, index, length):
        """See Pool.writing."""
        c: Call
        self.handle(cython.address(c), index)
        return filling.writing(self.pool, cython.address(c), length)

    def put_object(self, data, *, ttl=None, if_absent=False, if_version=None, word=None, key=None):
        """See Pool.put_object."""
        c: Call
        self.aim(cython.address(c))
        return values.put_object(self.pool, cython.address(c), data, ttl, if_absent, if_version, word, key)

    def get_object(self, info=False):
        """See Pool.get_object."""
        c: Call
        self.aim(cython.address(c))
        return values.get_object(self.pool, cython.address(c), info)

    def get_object_into(self, buffer):
        """See Pool.get_object_into."""
        c: Call
        self.aim(cython.address(c))
        return values.get_object_into(self.pool, cython.address(c), buffer)

    def view_object(self):
        """See Pool.view_object."""
        c: Call
        self.aim(cython.address(c))
        return values.view_object(self.pool, cython.address(c))

    def writing_object(self, length, *, ttl=None, if_absent=False, if_version=None, word=None, key=None):
        """See Pool.writing_object."""
        c: Call
        self.aim(cython.address(c))
        return filling.writing_object(self.pool, cython.address(c), length, ttl, if_absent, if_version, word, key)

    def incr(self, delta=1, initial=0, ttl=None, *, word=None, key=None):
        """See Pool.incr."""
        c: Call
        self.aim(cython.address(c))
        return values.count(self.pool, cython.address(c), delta, initial, ttl, word, key)

    def touch(self, ttl):
        """See Pool.touch."""
        c: Call
        self.aim(cython.address(c))
        return values.touch(self.pool, cython.address(c), ttl)

    def expires(self):
        """See Pool.expires."""
        c: Call
        self.aim(cython.address(c))
        return values.expires(self.pool, cython.address(c))

    def has(self):
        """See Pool.has."""
        c: Call
        self.aim(cython.address(c))
        return values.has(self.pool, cython.address(c))

    def put_many(self, indexes, pages):
        """See Pool.put_many; a sequence of indexes instead of handles."""
        return batch.put_many(self.pool, batch.places_in(self.words, self.hash, indexes), "indexes", pages)

    def get_many(self, indexes, free=None):
        """See Pool.get_many; a sequence of indexes instead of handles."""
        return batch.get_many(self.pool, batch.places_in(self.words, self.hash, indexes), free)

    def flush_page(self, index):
        """See Pool.flush_page."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.flush_page_call(cython.address(c))

    def flush_object(self, if_version=None):
        """See Pool.flush_object."""
        c: Call
        self.aim(cython.address(c))
        return values.flush(self.pool, cython.address(c), if_version)

    def indexes(self, after=None, limit=None):
        """An iterator over the indexes of the object's pages, the lowest first. A page that is
        there all the time comes once; one that is put or dropped meanwhile may come or not. after:
        only those above it. limit: so many at most."""
        return walks.walk_indexes(self.pool, self.words, self.hash, after, limit)

    def object_info(self):
        """See Pool.object_info."""
        c: Call
        self.handle(cython.address(c), 0)
        return self.pool.object_info_call(cython.address(c))

    def descriptor(self, index):
        """See Pool.descriptor."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.descriptor_call(cython.address(c))

    def replace(self, index, pampd, generation):
        """See Pool.replace."""
        c: Call
        self.handle(cython.address(c), index)
        return self.pool.replace_call(cython.address(c), pampd, generation)

    def __repr__(self):
        return f"<object {self.oid} of {self.pool!r}>"

    def __reduce__(self):
        return (open_object, (self.pool, self.oid))


seal(Object, "Pool.object")
