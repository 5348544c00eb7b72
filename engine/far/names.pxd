# C-level names of names.py.
from shm.layout cimport u64

cdef enum:
    NAME_BYTES = 16
    HEAD_BYTES = 56             # a name and a handle, the mark of the pool, the oid, and the index: a word each
    SEAL_BYTES = 8              # what a seal adds to a page

cpdef bytes name_of(u64 nonce, u64 gen)

cpdef bytes key_of(bytes name)

cdef bytes unsealed(u64 *head, value, u64 length)
