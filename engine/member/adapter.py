"""Owns the adapter that lets a PAM be written in Python: it takes the GIL, calls, and keeps what is
raised.

What a back end raises counts as refused or failed, and reaches the caller of the verb once all
locks are released.
"""
import cython
from cython.cimports.engine.layout.call import FAILED, REFUSED
from cython.cimports.engine.layout.words import FOREIGN, length_of, shape_of
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.shm.atomics import this_thread
from cython.cimports.shm.layout import OK, u64
from engine.sizes import whole

U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
VERBS = ("create", "get_data", "get_data_and_free", "free", "new_obj", "free_obj", "is_remote", "replace_in_obj")


@cython.cfunc
def _triple(oid: cython.pointer(u64)) -> tuple:
    return (oid[0], oid[1], oid[2])


@cython.cclass
class PyPam(PamOps):
    """A PAM whose verbs are methods of a Python object; see engine.register_pam for what they
    take."""

    def __cinit__(self, ops):
        for verb in VERBS:
            if not callable(getattr(ops, verb, None)):
                raise TypeError(f"factory: makes an object with {', '.join(VERBS)}; no {verb}")
        self.ops = ops
        self.errors = {}
        self.results = {}
        self.foreign = True

    def call(self, verb, args):
        try:
            return getattr(self.ops, verb)(*args)
        except BaseException as error:
            self.fail(error)
            return None

    def fail(self, error):
        self.errors.setdefault(this_thread(), error)

    def failed(self):
        with cython.gil:
            return this_thread() in self.errors

    def take_error(self):
        return self.errors.pop(this_thread(), None)

    def take_result(self):
        return self.results.pop(this_thread(), None)

    def prepare(self, w, d, data, length):
        d.data = 0
        d.shape = shape_of(length, 0, FOREIGN)
        return OK

    def create(self, pool, oid, d, data, length):
        with cython.gil:
            token = self.call("create", (pool, _triple(oid), d.index, data[:length]))
            if token is None or self.failed():
                return REFUSED
            number = whole(token)
            if number is None or not 0 <= number <= U64_MAX:
                self.fail(TypeError(f"create: None or an int from 0 to 2**64-1, not {token!r}"))
                return REFUSED
            d.data = number
            return OK

    def get_data(self, pool, oid, d):
        with cython.gil:
            return self._fetch("get_data", pool, _triple(oid), d.index, d.data, length_of(d))

    def get_data_and_free(self, pool, oid, d):
        with cython.gil:
            return self._fetch("get_data_and_free", pool, _triple(oid), d.index, d.data, length_of(d))

    def _fetch(self, verb, pool, oid, index, token, length):
        data = self.call(verb, (pool, oid, index, token))
        if data is None or self.failed():
            return FAILED
        if not isinstance(data, bytes) or len(data) != length:
            self.fail(ValueError(f"{verb}: a back end gave something else than the {length} bytes it was given"))
            return FAILED
        self.results[this_thread()] = data
        return OK

    def free(self, pool, oid, d):
        with cython.gil:
            self.call("free", (pool, _triple(oid), d.index, d.data))

    def new_obj(self, pool, oid):
        with cython.gil:
            self.call("new_obj", (pool, _triple(oid)))

    def free_obj(self, pool, oid):
        with cython.gil:
            self.call("free_obj", (pool, _triple(oid)))

    def is_remote(self, d):
        with cython.gil:
            return bool(self.call("is_remote", (d.data,)))

    def replace_in_obj(self, pool, oid, d, data):
        with cython.gil:
            return bool(self.call("replace_in_obj", (pool, _triple(oid), d.index, d.data, data)))
