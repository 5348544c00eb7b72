# C-level names of computing.py.
from engine.cache.store cimport Store
from shm.layout cimport u64

cdef tuple lease_of(Store store, object key, int kind)
cdef object find_good(Store store, object key, double beta, bint *good, u64 *version)
