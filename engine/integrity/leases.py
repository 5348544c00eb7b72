"""Owns the check and the repair of the lease table.

A lease of whoever is dead is as good as free. One that is held is whole, has its place in the
bucket of its name, and is held once. It may be given back while this looks, in a stopped world too:
that is one store, after which it is free.
"""
import cython
from cython.cimports.engine.layout.regions import has_leases, lease_bucket, leases_offset
from cython.cimports.engine.layout.structs import (
    CLIENT_PAGE,
    LEASE_BUCKET_BYTES,
    LEASE_BUCKETS,
    LEASES_A_BUCKET,
    ClientPage,
    Lease,
    LeaseBucket,
)
from cython.cimports.engine.oid import hash_oid
from cython.cimports.engine.verbs.lease import is_over, is_whole
from cython.cimports.shm.atomics import load, set
from cython.cimports.shm.layout import OK, Worker, offset_of, u64
from cython.cimports.shm.memory import back


@cython.cfunc
@cython.exceptval(check=False)
def _is_held(w: cython.pointer(Worker), lease: cython.pointer(Lease)) -> cython.bint:
    holder: u64 = load(cython.address(lease.holder))
    return holder != 0 and not is_over(w, holder)


@cython.cfunc
@cython.exceptval(check=False)
def _is_same(one: cython.pointer(Lease), other: cython.pointer(Lease)) -> cython.bint:
    return one.oid[0] == other.oid[0] and one.oid[1] == other.oid[1] and one.oid[2] == other.oid[2]


@cython.cfunc
def _problem(w: cython.pointer(Worker), number: u64, i: u64) -> tuple:
    """What is wrong with a lease that is held, as of Claims.note; None if nothing is, or it is
    free."""
    b: cython.pointer(LeaseBucket) = lease_bucket(w, number)
    lease: cython.pointer(Lease) = cython.address(b.leases[i])
    holder: u64 = load(cython.address(lease.holder))
    j: u64
    if holder == 0 or is_over(w, holder):
        return None
    if not is_whole(lease, holder):
        return ("lease-seal", f"holder {holder:#x} has not written all words of this lease")
    if lease_bucket(w, hash_oid(lease.oid[0], lease.oid[1], lease.oid[2])) != b:
        return ("lease-place", "in a bucket that is not its name's")
    for j in range(i):
        if _is_same(lease, cython.address(b.leases[j])) and _is_held(w, cython.address(b.leases[j])):
            return ("lease-twice", "held twice")
    return None


def walk_lease_bucket(checker: Claims, number):
    """Look at a bucket that stands still, or is locked: how many leases of it are held."""
    w: cython.pointer(Worker) = checker.w
    b: cython.pointer(LeaseBucket) = lease_bucket(w, number)
    held: u64 = 0
    i: u64
    if not has_leases(w, number):
        return 0
    if checker.stopped and (b.lock.owner != 0 or b.lock.seq & 1):
        checker.note("lease-lock", offset_of(w, b), "held in a stopped world")
    for i in range(LEASES_A_BUCKET):
        wrong = _problem(w, number, i)
        if wrong is not None:
            checker.note(wrong[0], offset_of(w, cython.address(b.leases[i])), wrong[1])
        held += _is_held(w, cython.address(b.leases[i]))
    return held


def mend_leases(w):
    """Free all locks of the table, and all leases but those that somebody holds beyond doubt."""
    table: cython.pointer(ClientPage) = cython.cast(cython.pointer(ClientPage), w.base + w.client_off)
    b: cython.pointer(LeaseBucket)
    backed: u64 = load(cython.address(table.leases))
    number: u64
    i: u64
    for i in range(64):
        if backed >> i & 1 and back(w, leases_offset(w) + i * CLIENT_PAGE, CLIENT_PAGE) != OK:
            backed &= ~(cython.cast(u64, 1) << i)
    set(cython.address(table.leases), backed)
    for number in range(LEASE_BUCKETS):
        b = lease_bucket(w, number)
        if backed >> (number * LEASE_BUCKET_BYTES // CLIENT_PAGE) & 1:
            b.lock.owner = 0
            b.lock.seq = (b.lock.seq + 1) & ~cython.cast(u64, 1)
            for i in range(LEASES_A_BUCKET):
                if not _is_held(w, cython.address(b.leases[i])) or _problem(w, number, i) is not None:
                    set(cython.address(b.leases[i].holder), 0)
    return 0
