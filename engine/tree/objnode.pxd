# C-level names of objnode.py.
from engine.tree.hostops cimport HostOps
from engine.layout.structs cimport HEIGHT_MAX, MAP_SIZE, Obj
from shm.atomics cimport clz
from shm.layout cimport Worker, offset_of, u64

cdef u64 lookup(Worker *w, Obj *o, u64 index) noexcept nogil
cdef u64 *link_word(Worker *w, Obj *o, u64 index, u64 level) noexcept nogil
cdef int insert(Worker *w, u64 obj_off, u64 index, u64 page, u64 *old, HostOps host) noexcept nogil
cdef u64 remove(Worker *w, u64 obj_off, u64 index, HostOps host) noexcept nogil

cdef inline u64 leaf_of(Worker *w, u64 *at, u64 index) noexcept nogil:
    # Offset of the bottom node that has the link word of a page at `at`.
    return offset_of(w, at) - 64 - (index & (MAP_SIZE - 1)) * 8

cdef inline u64 height_for(u64 index) noexcept nogil:
    # The smallest h with index < 64^h.
    return 0 if index == 0 else <u64>(64 - clz(index) + 5) // 6
