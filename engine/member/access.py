"""Owns who may do what: an engine that acts for a client, and the list of clients that a shared
pool lets in.

A matter of manners among processes that trust each other: whoever may write to the arena's file can
write all of it. A record's list is written before its pool goes live and never again, so readers
take no lock.
"""
import cython
from cython.cimports.engine.layout.regions import allow_count, allow_id, is_live
from cython.cimports.engine.layout.structs import ALLOW_MAX, POOL_SHARED, PoolRecord
from cython.cimports.engine.member.member import Member
from cython.cimports.libc.string import memset
from cython.cimports.shm.layout import u64
from engine.errors import AccessDenied, PoolDestroyed
from engine.sizes import whole

CLIENT_LARGEST = 2**32 - 1


def client_or_none(client):
    """The client that an engine is to act for, an argument; None: the host, who may do
    everything."""
    if client is None:
        return None
    number = whole(client)
    if number is None:
        raise TypeError(f"client: None or an int from 0 to 2**32-1, not {type(client).__name__}")
    if not 0 <= number <= CLIENT_LARGEST:
        raise ValueError(f"client: None or an int from 0 to 2**32-1, not {client}")
    return number


def narrowed(engine: Member, client):
    """Who is meant by a `client` argument: the engine's own if None. AccessDenied if the engine
    acts for another."""
    client = client_or_none(client)
    if client is None:
        return engine.client_id
    if engine.client_id is not None and client != engine.client_id:
        raise AccessDenied(f"arena {engine.name!r}: this engine acts for client {engine.client_id}, not for {client}")
    return client


def host_only(engine: Member, what):
    """AccessDenied if the engine acts for a client: `what` is for the host."""
    if engine.client_id is not None:
        raise AccessDenied(
            f"arena {engine.name!r}: only the host may {what}, and this engine acts for client {engine.client_id}"
        )


def owner_only(engine: Member, owner, what):
    """AccessDenied if the engine acts for a client other than `owner`."""
    if engine.client_id is not None and engine.client_id != owner:
        raise AccessDenied(
            f"arena {engine.name!r}: client {engine.client_id} may not {what}, which belongs to client {owner}"
        )


def allow_argument(allow, shared):
    """The `allow` of a new pool: None, or 1 to 32 client ids, each once, as a tuple."""
    if allow is None:
        return None
    if isinstance(allow, (str, bytes)):
        raise TypeError(f"allow: None or client ids, not {type(allow).__name__}")
    try:
        ids = iter(allow)
    except TypeError:
        raise TypeError(f"allow: None or client ids, not {type(allow).__name__}") from None
    found = []
    for given in ids:
        id = whole(given)
        if id is None:
            raise TypeError(f"allow: client ids, ints from 0 to 2**32-1, not {type(given).__name__}")
        if not 0 <= id <= CLIENT_LARGEST:
            raise ValueError(f"allow: client ids, ints from 0 to 2**32-1, not {id}")
        if id not in found:
            found.append(id)
        if len(found) > ALLOW_MAX:
            raise ValueError(f"allow: 1 to {ALLOW_MAX} client ids, not more")
    if not found:
        raise ValueError(f"allow: 1 to {ALLOW_MAX} client ids, not none; None lets all in")
    if not shared:
        raise ValueError("allow: only for a shared pool; a private one is its own client's alone")
    return tuple(found)


def set_allow(p, allow):
    """Write the list into a record that is not published yet."""
    i: u64 = 0
    memset(p.allow, 0, cython.sizeof(p.allow))
    p.allow_count = 0 if allow is None else len(allow)
    for id in allow or ():
        p.allow[i >> 1] |= cython.cast(u64, id) << (i & 1) * 32
        i += 1
    return 0


def allow_list(p):
    """The list of a record as a tuple; None if it has none."""
    i: u64
    count: u64 = allow_count(p)
    return tuple([allow_id(p, i) for i in range(count)]) if count else None


@cython.cfunc
@cython.exceptval(-1)
def _lets_in(p: cython.pointer(PoolRecord), client: u64) -> cython.bint:
    i: u64
    count: u64 = allow_count(p)
    if p.client == client:
        return True
    if p.flags & POOL_SHARED == 0:
        return False
    for i in range(count):
        if allow_id(p, i) == client:
            return True
    return count == 0


def assert_open_to(engine: Member, p, gen):
    """AccessDenied if the engine's client may not use this pool. PoolDestroyed if it is none of
    generation `gen` any more."""
    if engine.client_id is None or _lets_in(p, engine.client_id):
        return 0
    name = p.name[:cython.sizeof(p.name)].rstrip(b"\0").decode("utf-8", "replace")
    owner: u64 = p.client
    if not is_live(p, gen):
        raise PoolDestroyed("the pool was destroyed")
    raise AccessDenied(
        f"pool {name!r} of client {owner} does not let in client {engine.client_id}, for whom this engine acts"
    )
