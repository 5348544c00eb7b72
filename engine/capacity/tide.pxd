# C-level names of tide.py.

cdef class Tide:
    cdef long long window
    cdef long long since        # when the window began that `most` is about
    cdef long long most         # segments in use, in this window
    cdef long long before       # and in the one before
    cdef long long given        # segments that went last, and have not come back in time so far
    cdef long long given_at
    cdef long long low          # segments with memory after that
    cdef long long not_before   # nothing is tried before
    cdef long long pause
    cdef public long long cursor    # segments below this number are looked through next
    cdef int judge(self, long long backed, long long now) except -1
