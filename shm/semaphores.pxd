# C-level names of semaphores.py.

cdef class Semaphores:
    cdef str _arena_name
    cdef int _mode
    cdef int _sleepers
    cdef object _open               # name -> posix_ipc.Semaphore, least recently used first
    cdef object _get(self, object offset, object generation)
