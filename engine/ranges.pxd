# C-level names of ranges.py.
from engine.layout cimport Call
from engine.pool cimport Pool

cdef object get_range(Pool pool, Call *c, object count, object free)
cdef object get_range_into(Pool pool, Call *c, object count, object buffer, object free)
