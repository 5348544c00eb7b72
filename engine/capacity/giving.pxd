# C-level names of giving.py.
from engine.member.member cimport Member
from shm.layout cimport Worker, u64

cdef u64 dug_as(Worker *w, u64 number) noexcept nogil
cdef bint is_hole_with_memory(Worker *w, u64 number) noexcept nogil
cdef int relist(Member engine, list numbers) except -1
cdef object look(Member engine, bint destroyed)
cdef object give_forgotten(Member engine)
