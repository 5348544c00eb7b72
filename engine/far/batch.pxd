# C-level names of batch.py.

cdef class Batch:
    cdef readonly list names        # 16 bytes each
    cdef readonly list values       # sealed
    cdef readonly list ttls         # milliseconds that the page has to live; 0: for ever
    cdef list places                # for who has made it: where each is in the table of those that were chosen
