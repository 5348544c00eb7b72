"""Owns the keys of a cache: which are equal, that all processes agree on their bytes, and the way
back from these."""

import dataclasses
import datetime
import decimal
import enum
import fractions
import os
import pathlib
import random
import subprocess
import sys
import uuid
import zoneinfo

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from engine.cache import keys
from tests.support import child_env


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Level(enum.IntEnum):
    LOW = 1


class Word(str):
    pass


@dataclasses.dataclass(frozen=True)
class Place:
    x: int
    y: int
    note: str = dataclasses.field(default="", compare=False)


class Pair:
    """An object that is equal to its copy."""

    def __init__(self, left, right):
        self.left, self.right = left, right

    def __eq__(self, other):
        return (self.left, self.right) == (other.left, other.right)

    def __hash__(self):
        return hash((self.left, self.right))


def function():
    pass


BERLIN = datetime.datetime(2024, 7, 1, 14, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
KEYS = [
    "",
    "a",
    "schlüssel",
    "\ud800",
    "\0",
    b"",
    b"a",
    b"\xff" * 200,
    0,
    1,
    -1,
    2**62,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    10**400,
    1.5,
    float("inf"),
    float("-inf"),
    None,
    ...,
    (),
    ("a",),
    (("a",),),
    ("a", "b"),
    ("ab",),
    (b"a",),
    (1, "1"),
    (1, (2, (3,))),
    frozenset(),
    frozenset({"a", "b", "c"}),
    (frozenset({1, 2}), None),
    Colour.RED,
    Colour.BLUE,
    Rights.READ | Rights.WRITE,
    Place(1, 2),
    Place(2, 1),
    Pair(1, "x"),
    uuid.UUID(int=7),
    pathlib.PurePosixPath("/a/b"),
    decimal.Decimal("1.1"),
    fractions.Fraction(1, 3),
    1 + 2j,
    datetime.date(2024, 7, 1),
    datetime.datetime(2024, 7, 1),
    BERLIN,
    datetime.timedelta(1),
    range(3),
    int,
    Place,
    function,
    len,
]
EQUAL = [
    (1, True),
    (1, 1.0),
    (0, -0.0),
    (0, False),
    (1, Level.LOW),
    ("a", Word("a")),
    (5, decimal.Decimal(5)),
    (5, 5 + 0j),
    (1.5, decimal.Decimal("1.5")),
    (0.5, fractions.Fraction(1, 2)),
    (10**30, 1e30 if int(1e30) == 10**30 else 10**30),
    ((1, "a"), (True, "a")),
    (b"ab", memoryview(b"ab")),
    (Place(1, 2, "x"), Place(1, 2, "y")),
    (BERLIN, BERLIN.astimezone(datetime.UTC)),
    (frozenset("abc"), frozenset("cba")),
]


@pytest.mark.parametrize("length", [*range(0, 140), 200, 240, 241, 1000, 70_000])
def test_the_hash_is_the_one_of_the_package(length):
    rng = random.Random(length)
    for seed in (0, 1, 2**64 - 1, rng.getrandbits(64)):
        data = rng.randbytes(length)
        low, high = keys.digest(data, seed)
        assert high << 64 | low == xxhash.xxh3_128_intdigest(data, seed)


def test_keys_that_differ_have_other_bytes():
    forms = [keys.canonical(key) for key in KEYS]
    assert len(set(forms)) == len(KEYS)


@pytest.mark.parametrize(("one", "other"), EQUAL, ids=map(str, range(len(EQUAL))))
def test_keys_that_are_equal_have_the_same_bytes(one, other):
    assert one == other
    assert keys.canonical(one) == keys.canonical(other)


def test_ints_of_numpy_are_ints():
    numpy = pytest.importorskip("numpy")
    for kind in ("int8", "uint64", "int32"):
        assert keys.canonical(numpy.dtype(kind).type(7)) == keys.canonical(7)
    assert keys.canonical(numpy.float32(1.5)) == keys.canonical(1.5)
    assert keys.canonical(numpy.str_("a")) == keys.canonical("a")
    assert keys.canonical((numpy.int64(3), "a")) == keys.canonical((3, "a"))


def test_a_nan_is_one_key():
    assert keys.canonical(float("nan")) == keys.canonical(-float("nan"))


PRINT = """
from tests.contract.test_cache_keys import KEYS
from engine.cache import keys
import hashlib
print(hashlib.sha256(b"|".join(b"%d:%s" % keys.canonical(key) for key in KEYS)).hexdigest())
"""


def test_processes_agree_whatever_their_hash_seed():
    told = {
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env=child_env(PYTHONHASHSEED=seed),
            capture_output=True,
            text=True,
            check=True,
            cwd=os.getcwd(),
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(told) == 1


@pytest.mark.parametrize("key", KEYS, ids=map(str, range(len(KEYS))))
def test_the_way_back(key):
    kind, data = keys.canonical(key)
    back = keys.decoded(kind, data)
    assert back == key
    assert type(back) is type(key) or isinstance(key, datetime.datetime)


SCALARS = (
    st.text()
    | st.binary()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.none()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.datetimes()
    | st.sampled_from(Colour)
)
ALL = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=6
)


@given(ALL, ALL)
def test_equal_bytes_are_equal_keys(one, other):
    assert (keys.canonical(one) == keys.canonical(other)) == (one == other)
    assert keys.decoded(*keys.canonical(one)) == one


@pytest.mark.parametrize(
    "key", [[], {}, set(), ([],), bytearray(b"x"), (1, {}), slice(1) if sys.version_info < (3, 12) else []]
)
def test_what_is_not_hashable_is_no_key(key):
    with pytest.raises(TypeError, match="^key: something hashable"):
        keys.canonical(key)


@pytest.mark.parametrize("key", [object(), lambda: 1, (1, object()), memoryview(bytearray(b"x")), pytest])
def test_what_is_equal_to_nothing_but_itself_is_no_key(key):
    with pytest.raises(TypeError, match="^key: "):
        keys.canonical(key)


def test_a_local_class_is_no_key():
    @dataclasses.dataclass(frozen=True)
    class Local:
        x: int

    with pytest.raises(TypeError, match="cannot be imported"):
        keys.canonical(Local(1))


def test_a_key_may_not_be_too_long_or_too_deep():
    deep = ()
    for _ in range(1000):
        deep = (deep,)
    with pytest.raises(ValueError, match="^key: parts inside one another"):
        keys.canonical(deep)
    keys.canonical("x" * (1 << 20))
    with pytest.raises(ValueError, match="^key: at most 1048576 bytes"):
        keys.canonical("x" * ((1 << 20) + 1))
