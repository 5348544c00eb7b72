# C-level names of stop.py.
from engine.member.member cimport Member
from shm.layout cimport Worker

cdef int stop_all(Member engine, bint repair) except -1
cdef void resume(Worker *w) noexcept
