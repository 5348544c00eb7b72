"""Owns the text that says where a pool's far tier is, as the arena has it."""
from xxhash import xxh3_64_intdigest

import cython
from cython.cimports.engine.layout.regions import far_at
from cython.cimports.engine.layout.structs import FAR_TARGET_BYTES, FarRecord
from cython.cimports.shm.layout import u64


def target_of(w, idx):
    """The target of a pool with a far tier; None: it is not what was written."""
    record: cython.pointer(FarRecord) = far_at(w, idx)
    target: bytes = record.target[:min(record.length, cython.cast(u64, FAR_TARGET_BYTES))]
    return target.decode("utf-8", "replace") if xxh3_64_intdigest(target) == record.hash else None
