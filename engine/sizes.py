"""Owns reading whole numbers, and sizes as people write them."""
import operator
import re

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
          "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
          "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

CAP_PAGES_MAX = 2**62
CAP_BYTES = 2**63               # of a cap word: as in engine/layout/words.pxd


def whole(value: object) -> int | None:
    """An argument as an int, if it is one or, as NumPy's integers do, says which one it is
    (`__index__`); None else, and for True and False."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        return None
    try:
        return operator.index(value)    # type: ignore[arg-type]
    except TypeError:
        return None


def parse_size(argument: str, value: object) -> int:
    """Bytes of a size: an int, or text such as "64MiB" or "1.5 GiB". TypeError or ValueError names
    the argument."""
    number = whole(value)
    if number is not None:
        return number
    if not isinstance(value, str):
        raise TypeError(f"{argument}: bytes as an int, or text such as '64MiB', not {type(value).__name__}")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if not match or match.group(2).lower() not in _UNITS:
        raise ValueError(f"{argument}: bytes as an int, or text such as '64MiB' or '1GiB', not {value!r}")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def cap_word(value: object, name: str = "cap") -> int:
    """The word that an arena keeps of a cap: pages, from an int; bytes, with bit 63 set, from text
    such as "64MiB"; 0 for none."""
    if isinstance(value, str):
        size = parse_size(name, value)
        if size >= CAP_BYTES:
            raise ValueError(f"{name}: less than 8 EiB, not {value!r}")
        return size | CAP_BYTES if size else 0
    number = whole(value)
    if number is None:
        raise TypeError(f'{name}: pages, as an int, or bytes, as text such as "64MiB", not {type(value).__name__}')
    if not 0 <= number <= CAP_PAGES_MAX:
        raise ValueError(f"{name}: from 0 to {CAP_PAGES_MAX} pages, not {value}")
    return number


def number_in(name: str, value: object, low: int, high: int, power: bool = False) -> int:
    """The value of an argument, an int from `low` to `high`, or with `power` a power of two."""
    number = whole(value)
    if number is None:
        raise TypeError(f"{name}: an int, not {type(value).__name__}")
    if not low <= number <= high or (power and number & (number - 1)):
        raise ValueError(f"{name}: {'a power of two ' if power else ''}from {low} to {high}, not {value}")
    return number
