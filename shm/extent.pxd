# C-level names of extent.py, and how much room something takes.
from shm.layout cimport EXTENT_CLASS, GRANULE_SHIFT, Magazine, Worker, u64

cdef int ensure_extent(Worker *w, u64 length) noexcept nogil
cdef int drain_extent(Worker *w, Magazine *mag) noexcept nogil
cdef int trim_extent(Worker *w) noexcept nogil

# log2 of the bytes of a granule.
cdef inline u64 granule_bits(Worker *w) noexcept nogil:
    return w.seg_shift - GRANULE_SHIFT

# Granules of an extent for so many bytes.
cdef inline u64 granules_of(Worker *w, u64 length) noexcept nogil:
    return (length + (<u64>1 << granule_bits(w)) - 1) >> granule_bits(w)

# Bytes of arena that `length` bytes take in a chunk of a class, or in an extent.
cdef inline u64 room_of(Worker *w, int cls, u64 length) noexcept nogil:
    return granules_of(w, length) << granule_bits(w) if cls == EXTENT_CLASS else w.class_bytes[cls]
