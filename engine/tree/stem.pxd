# C-level names of stem.py.
from engine.layout.structs cimport Bucket
from shm.layout cimport Worker, u64

cdef u64 give_stem(Worker *w, Bucket *b, u64 obj_off) noexcept nogil
