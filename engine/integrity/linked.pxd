# C-level names of linked.py.
from engine.integrity.claims cimport Claims
from engine.layout.structs cimport Bucket, Obj, Pampd
from shm.layout cimport u64

cdef class Linked(Claims):
    cdef u64 *listed                    # as seen, of the pages in queues
    cdef u64 in_shard                   # pages in the queues of the shard under the walk
    cdef bint queued                    # pages of the pool that is being walked go into queues
    cdef u64 far_lost                   # pages in queues of which their tier has said that they are lost
    cdef set retired_pools              # pool slots that a retired list leads to
    cdef u64 pool_idx                   # pool under the walk
    cdef u64 page_size                  # bytes that a page of it has at most
    cdef u64 mark                       # of a foreign page of it (Pampd.queue); 0: any
    cdef u64 pages, nodes, objects
    cdef u64 leans                      # lean ones among the objects
    cdef bint lean                      # the obj that is being walked is one
    cdef u64 codecs                     # flags of the codecs that pages of the pool under the walk may have
    cdef u64 begin                      # of the obj that is being walked: pages of smaller indices were walked before
    cdef u64 room                       # how many more may be walked now
    cdef bint cut                       # there were more; `begin` is where to go on
    cdef u64 obj_pages, obj_nodes, last # of the obj that is being walked, as found; its largest index
    cdef u64 asked, used, stored        # bytes of it
    cdef u64 pool_asked, pool_used, pool_stored
    cdef int enter_pool(self, u64 idx) except -1
    cdef int leave_pools(self) except -1
    cdef bint red(self, u64 off) noexcept
    cdef int walk_queued(self, Pampd *d, u64 off, u64 word, bint linked) except -1
    cdef int walk_queues(self, u64 pool, u64 shard) except -1
    cdef int walk_page(self, u64 off, u64 obj_off, u64 index, bint linked) except -1
    cdef int walk_tree(self, u64 off, u64 obj_off, u64 level, u64 prefix) except -1
    cdef int walk_link(self, u64 link, u64 obj_off, u64 level, u64 prefix) except -1
    cdef int enter_obj(self) except -1
    cdef bint walk_pages(self, u64 off) except -1
    cdef int compare_obj(self, u64 off) except -1
    cdef int leave_obj(self) except -1
    cdef int walk_obj(self, u64 off) except -1
    cdef int walk_rb(self, u64 off, u64 parent, Obj **low, Obj **high, int depth, u64 bucket) except -1
    cdef int begin_pool(self, u64 idx) except -1
    cdef int walk_record(self, u64 idx) except -1
    cdef int walk_death(self, Obj *o, u64 off, u64 bucket) except -1
    cdef int walk_living(self, Bucket *b, u64 bucket) except -1
    cdef dict twins                     # offset of a twin -> pages that refer to it, as found
