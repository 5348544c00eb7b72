"""Owns the op table of page-accessible memory (PAM), with the answers of a back end that has
nothing to do.

`prepare` is called with no bucket locked, before a page is linked; all others under the bucket's
lock, except get_data of a remote page. new_obj and free_obj are balanced: once each an object. A
back end in Python is reached through adapter.py, a compiled one by subclassing PamOps.
"""
import cython
from cython.cimports.engine.layout.call import FAILED
from cython.cimports.shm.layout import NOMEM, OK


@cython.cclass
class PamOps:
    """Page-accessible memory. `foreign` is False for back ends that keep page bytes in arena
    chunks."""

    def failed(self):
        return False

    def take_error(self):
        return None

    def take_result(self):
        return None

    def prepare(self, w, d, data, length):
        """Fill data and shape of an unlinked page. OK, BUSY, NOMEM or CORRUPT; chunks are taken by
        `pop`."""
        return FAILED

    def prepare_larger(self, w, d, data, length, most):
        """As prepare, when nothing can be had for it and no page may go: into any chunk of up to
        `most` bytes."""
        return NOMEM

    def create(self, pool, oid, d, data, length):
        """The page, `length` bytes at `data`, is about to be linked. OK, or REFUSED."""
        return OK

    def get_data(self, pool, oid, d):
        """Fetch a foreign page into `result`. OK, or FAILED: the page stays."""
        return FAILED

    def get_data_and_free(self, pool, oid, d):
        """As get_data; on OK the page is gone in the back end."""
        return FAILED

    def free(self, pool, oid, d):
        """The page is unlinked."""

    def new_obj(self, pool, oid):
        """An object got its first page."""

    def free_obj(self, pool, oid):
        """An object lost its last page."""

    def is_remote(self, d):
        """True if fetching the page may take long: it is fetched without the bucket's lock."""
        return False

    def replace_in_obj(self, pool, oid, d, data):
        """The page's token is about to become `data`. True to agree."""
        return False
