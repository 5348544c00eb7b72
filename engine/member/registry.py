"""Owns the back ends this process knows: one host, and PAMs by name.

A pool asks here which PAM it has. Giving back what a foreign PAM holds for pages that were retired
with their object or pool also ends here, by a function pointer: reclaim.py lies on a lower floor.
"""
import cython
from cython.cimports.engine.layout.regions import pool_at, was_obj
from cython.cimports.engine.layout.structs import GEO_POOLS, PAM_NAME_BYTES, Obj, Pampd
from cython.cimports.engine.member.adapter import PyPam
from cython.cimports.engine.pages.pam.base import PamOps
from cython.cimports.engine.pages.pam.packed import PackedPam
from cython.cimports.engine.pages.pam.raw import RawPam
from cython.cimports.engine.pages.reclaim import set_foreign_free, set_host_told
from cython.cimports.engine.tree.hostops import HostOps, PyHostOps
from cython.cimports.shm.atomics import FREE_THREADED
from cython.cimports.shm.layout import Worker, u64
from cython.cimports.shm.memory import chunk_at
from engine.errors import TmemError


@cython.cclass
class Registry:
    """Back ends of this process."""

    def __cinit__(self):
        self.host = HostOps()
        self.factories = {"raw": RawPam, "lz4": lambda: PackedPam("lz4"), "zstd": lambda: PackedPam("zstd")}
        self.instances = {}
        self.replaced = []

    def pam(self, name):
        """The PAM of this name, made at its first use; TmemError if nobody registered it here, or
        what it needs is not installed."""
        with cython.critical_section(self):
            found = self.instances.get(name)
            factory = self.factories.get(name)
        if found is None:
            if factory is None:
                raise TmemError(f"pam {name!r} is not registered in this process (engine.register_pam)")
            made = factory()
            found = made if isinstance(made, PamOps) else PyPam(made)
            # Another thread may have been as far: then all have the one that it has made.
            found = self.instances.setdefault(name, found)
        return found

    def replace(self, old):
        """A back end that is one no more. Without the GIL another thread may be reading where it
        lies just now, so it stays."""
        if FREE_THREADED and old is not None:
            self.replaced.append(old)
        return 0

    def set_host(self, host):
        with cython.critical_section(self):
            self.replace(self.host)
            self.host = host
        return 0


registry = Registry()
BUILT_IN = tuple(registry.factories)


def register_hostops(ops):
    """Let `ops` decide about memory for objects and tree nodes, in this process; None: the built-in
    host again.

    ops: an engine.hostops.HostOps, or an object with obj_alloc(pool_id) -> bool, obj_free(pool_id),
    objnode_alloc(pool_id) -> bool, objnode_free(pool_id). False refuses: the put is refused. The
    memory itself always comes from the arena. Raises TypeError.
    """
    set_host_told(cython.NULL)
    if ops is None:
        registry.set_host(HostOps())
    elif isinstance(ops, HostOps):
        registry.set_host(ops)
    else:
        registry.set_host(PyHostOps(ops))
        set_host_told(_host_told)


def register_pam(name, factory):
    """Make a PAM known by name, in this process; pools made with pam=name use it. Replaces an
    earlier one.

    factory() gives an engine.pam.base.PamOps or an object with
    create(pool_id, oid, index, data) -> int | None     a 64-bit token, None refuses
    get_data(pool_id, oid, index, token) -> bytes | None     None: failed, the page stays
    get_data_and_free(pool_id, oid, index, token) -> bytes | None
    free(pool_id, oid, index, token); new_obj(pool_id, oid); free_obj(pool_id, oid)
    is_remote(token) -> bool; replace_in_obj(pool_id, oid, index, old, new) -> bool
    called under a bucket's lock (get_data of a remote page aside). Raises TypeError, ValueError.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: a str, not {type(name).__name__}")
    if not 1 <= len(name.encode()) < PAM_NAME_BYTES or name in BUILT_IN:
        raise ValueError(f"name: 1 to {PAM_NAME_BYTES - 1} bytes of utf-8, none of {', '.join(BUILT_IN)}: {name!r}")
    if not callable(factory):
        raise TypeError(f"factory: a callable without arguments, not {type(factory).__name__}")
    with cython.critical_section(registry):
        registry.factories[name] = factory
        registry.replace(registry.instances.pop(name, None))


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _host_told(pool: u64, is_obj: cython.bint) -> cython.void:
    with cython.gil:
        _tell_host("obj_free" if is_obj else "objnode_free", pool)


@cython.cfunc
@cython.exceptval(check=False)
def _tell_host(verb: str, pool: u64) -> cython.void:
    host: HostOps = registry.host
    if isinstance(host, PyHostOps):         # else it was replaced just now
        cython.cast(PyHostOps, host).tell(verb, pool, 1)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _foreign_free(w: cython.pointer(Worker), pool: u64, off: u64) -> cython.void:
    with cython.gil:
        _free_one(w, pool, off)


@cython.cfunc
@cython.exceptval(check=False)
def _free_one(w: cython.pointer(Worker), pool: u64, off: u64) -> cython.void:
    """Free a retired page or object in its PAM. Without that PAM here, the back end keeps what
    nobody can name."""
    o: cython.pointer(Obj)
    d: cython.pointer(Pampd)
    pam: PamOps
    if pool >= w.client_geometry[GEO_POOLS]:
        return          # a retired struct that names no pool: nothing to tell anyone
    try:
        pam = registry.pam(pool_at(w, pool).pam[:PAM_NAME_BYTES].rstrip(b"\0").decode())
    except (TmemError, UnicodeDecodeError):
        return
    o = cython.cast(cython.pointer(Obj), chunk_at(w, off))
    if was_obj(o.sentinel):
        pam.free_obj(pool, o.oid)
        return
    d = cython.cast(cython.pointer(Pampd), o)
    o = cython.cast(cython.pointer(Obj), chunk_at(w, d.obj))
    pam.free(pool, o.oid, d)


set_foreign_free(_foreign_free)
