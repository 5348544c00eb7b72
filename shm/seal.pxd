# C-level names of seal.py.

cdef int seal(type kind, str how) except -1
