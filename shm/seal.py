"""Owns seals: extension types whose objects compiled code alone makes.

A type is sealed once, at the end of the module that defines it. An object whose pointers nobody has
set is a crash waiting for its first call. Python makes objects through a type's `tp_new` (calling
it, __new__, copyreg, subclasses that inherit it), and a seal puts a refusal there. The module's own
`Kind.__new__(Kind)` is compiled to a call of the function itself and does not look at the slot: it
costs nothing, and works in that module alone.
Rejected: a permission that __cinit__ looks at (two stores and a branch an object, on the path of a
view); Py_TPFLAGS_DISALLOW_INSTANTIATION (an empty slot, which an inherited __new__ would jump
through).
"""
import cython
from cython.cimports.cpython.object import PyObject, PyTypeObject, newfunc

_HOW = {}


@cython.cfunc
def _refuse(kind: type, args: cython.pointer(PyObject), keywords: cython.pointer(PyObject)) -> object:
    for base in kind.__mro__:
        if base in _HOW:
            raise TypeError(f"{base.__name__}: made by {_HOW[base]}")
    raise TypeError(f"{kind.__name__}: not made from Python")


def seal(kind, how):
    """Let no object of a type be made from Python; `how` names what makes them."""
    _HOW[kind] = how
    cython.cast(cython.pointer(PyTypeObject), kind).tp_new = cython.cast(newfunc, _refuse)
    return 0
