"""Owns the verbs that drop what is there, a page or an object, and the one that gives a foreign
page another token. What all verbs share is in section.py.

Kill at any instruction: each is one transaction; what it unlinked hangs on the retired list.
"""
import cython
from cython.cimports.engine.layout.call import CONFLICT, MISS, REFUSED
from cython.cimports.engine.layout.regions import next_gen
from cython.cimports.engine.layout.structs import Bucket, Pampd
from cython.cimports.engine.tree.lookaside import find_obj
from cython.cimports.engine.tree.unlink import bury, bury_dead
from cython.cimports.engine.verbs.section import (
    REAP_BUDGET,
    bucket_of,
    drop_empty_obj,
    drop_page,
    end_section,
    find_page,
    finish,
    lock_bucket,
)
from cython.cimports.engine.verbs.value import allowed
from cython.cimports.shm.journal import store
from cython.cimports.shm.layout import OK, u64
from cython.cimports.shm.lock import unlock


def flush_page(w, p, c, pam, host):
    """Drop a page. OK, MISS, BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    obj_off = find_obj(w, p, c, b)
    status = MISS
    if obj_off != 0 and drop_page(w, p, c, obj_off, c.ask.index, False, pam, host) != 0:
        drop_empty_obj(w, p, c, b, obj_off, pam, host)
        status = OK
    status = end_section(w, b, status)
    finish(w, REAP_BUDGET, host)
    return status


def flush_object(w, p, c, pam, host):
    """Drop an object: unlinked in constant time, taken apart by `finish` (call it until it is not
    AGAIN). OK, MISS, CONFLICT, BUSY, DESTROYED or CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    obj_off = find_obj(w, p, c, b)
    status = OK if obj_off != 0 else MISS
    if c.ask.value != cython.NULL and obj_off != 0 and not allowed(w, p, c, obj_off):
        status = CONFLICT
    if status == OK:
        bury(w, b, obj_off)
    elif c.found.dead != 0 and w.fault == 0:
        bury_dead(w, p.record, b, c.found.dead)
    status = end_section(w, b, status)
    finish(w, REAP_BUDGET, host)
    return status


def replace(w, p, c, pam, host):
    """Let the token of a foreign page be c.ask.token if it is still of generation c.ask.gen. OK,
    MISS, REFUSED, BUSY, DESTROYED, CORRUPT."""
    b: cython.pointer(Bucket) = bucket_of(p, c)
    obj_off: u64
    d: cython.pointer(Pampd)
    status: cython.int = lock_bucket(w, p, b)
    if status != OK:
        return status
    status = MISS
    d = find_page(w, p, c, b, c.ask.index, cython.address(obj_off))
    if d != cython.NULL:
        if d.gen == c.ask.gen:
            status = REFUSED
            if pam.replace_in_obj(p.idx, c.ask.oid, d, c.ask.token):
                store(w, cython.address(d.data), c.ask.token)
                store(w, cython.address(d.gen), next_gen(w))
                status = OK
    status = end_section(w, b, status)
    unlock(w, cython.address(w.slot.own))
    return status
