# C-level names of batch.py.
from engine.layout.call cimport Packed
from engine.member.bound cimport Bound
from shm.layout cimport u64

# The handle of one page of a batch.
cdef struct Place:
    u64 oid[3]
    u64 hash
    u64 index

# The page that goes there.
cdef struct Load:
    const char *data
    u64 length
    Packed *packs           # how it is stored: see Call.packs

cdef bytes places_of(object handles)
cdef bytes places_in(u64 *oid, u64 hash, object indexes)
cdef list put_many(Bound pool, bytes places, str name, object pages)
cdef list get_many(Bound pool, bytes places, object free)
