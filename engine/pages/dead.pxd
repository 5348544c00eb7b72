# C-level names of dead.py.
from engine.layout.structs cimport Dead
from shm.layout cimport Worker, u64

cdef int note_dead(Worker *w, u64 *token, u64 pool, u64 gen) noexcept nogil
cdef bint has_ring(Worker *w) noexcept nogil
cdef int take_dead(Worker *w, Dead *out, u64 most, u64 *count) noexcept nogil
