"""Owns who may change what far tiers have: one worker of an arena at a time, who holds a byte of
the liveness file that the kernel drops with him.

That is the spiller, for a round; or who looks for garbage in a tier, and must not meet a page that
is on its way there.
"""
import cython
from cython.cimports.engine.member.member import Member
from cython.cimports.shm.kernel.liveness import SPILL_BYTE, byte_release, byte_try
from cython.cimports.shm.layout import OK, u64


def elected(engine: Member):
    """The id of this worker if it is the one from now on; 0: another is, or a thread of this
    engine."""
    me: u64
    engine.att.enter()
    try:
        me = engine.att.w.id
        if engine.spilling == me or byte_try(cython.address(engine.att.w), SPILL_BYTE()) != OK:
            return 0
        engine.spilling = me
        return me
    finally:
        engine.att.leave()


def step_down(engine: Member, me):
    """Let others be. A forked child has another id, and not the byte."""
    engine.att.enter()
    if engine.att.w.id == me:
        engine.spilling = 0
        byte_release(cython.address(engine.att.w), SPILL_BYTE())
    engine.att.leave()
    return 0
