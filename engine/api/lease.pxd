# C-level names of lease.py.
from cpython.pystate cimport PyThreadState
from engine.member.member cimport Member
from engine.verbs.lease cimport Wanted
from shm.layout cimport Lock, u64

cdef extern from "Python.h":
    # Of a thread as the interpreter counts them: no later one has the same.
    u64 PyThreadState_GetID(PyThreadState *thread) noexcept

cdef class Lease:
    cdef readonly Member engine
    cdef u64 words[3]
    cdef u64 hash
    cdef readonly object timeout
    cdef readonly bint any_thread
    cdef object __weakref__
    cdef int describe(self, Wanted *want) except -1
    cdef bint answer(self, int status) except -1
    cdef int take(self, Wanted *want) except -1
    cdef bint wait(self, object seconds) except -1
    cdef bint try_once(self) except -1
