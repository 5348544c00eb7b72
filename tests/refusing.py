"""Owns refusing a system call to this process for good, as a sandbox does: a filter that answers
ENOSYS.
"""
import ctypes
import errno
import platform
import struct

import pytest

NUMBERS = {"io_setup": {"x86_64": 206, "aarch64": 0}}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.ENOSYS


class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def number_of(call):
    """The number of a system call on this machine; skips the test where it is not known."""
    number = NUMBERS[call].get(platform.machine())
    if number is None:
        pytest.skip(f"does not know the number of {call} on {platform.machine()}")
    return number


def refusing(call):
    """From now on this process, and its children, have no such call."""
    code = b"".join(struct.pack("<HBBI", *step) for step in (
        (LOAD_NUMBER, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, number_of(call)), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
            PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(Program(4, code)), 0, 0):
        raise OSError(ctypes.get_errno(), "no filter can be had here")
