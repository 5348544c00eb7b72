# C-level names of leases.py.
from engine.integrity.claims cimport Claims
from shm.layout cimport Worker, u64

cdef u64 walk_lease_bucket(Claims checker, u64 number) except? 16
cdef int mend_leases(Worker *w) noexcept
