# C-level names of batch.py.
from cpython.buffer cimport Py_buffer
from shm.layout cimport u64

cdef enum:
    BATCH_MAX = 255             # pages: two batches of those of 4 KiB fill a region of a file
    BLOCK = 4096                # what the values begin and end at a multiple of
    UNIT = 8                    # what each of them begins at a multiple of

# A page of a batch: its name (two words) and its handle, where its value begins, bytes of it with the seal,
# milliseconds that it has to live (0: for ever), and what the one who has put it in calls it.
cdef struct Parcel:
    u64 head[7]
    u64 at
    u64 length
    u64 ttl
    u64 place

cdef class Batch:
    cdef object memory          # an mmap
    cdef Py_buffer held         # of it, for as long as this lives
    cdef char *values_at        # the values, one behind the other; there are HEAD_BYTES before them
    cdef u64 space              # bytes that they may take
    cdef u64 end                # bytes that they take so far
    cdef int count
    cdef Parcel parcels[BATCH_MAX]
    cdef int begin(self, u64 space) except -1
    cdef int seal(self) except -1
    cdef bytes name(self, int i)

cdef inline u64 in_units(u64 length) noexcept nogil:
    # Bytes that a value takes of the room.
    return (length + UNIT - 1) // UNIT * UNIT
