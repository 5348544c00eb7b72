# C-level names of ranges.py.
from engine.layout.call cimport Call
from engine.member.bound cimport Bound

cdef object get_range(Bound pool, Call *c, object count, object free)
cdef object get_range_into(Bound pool, Call *c, object count, object buffer, object free)
