"""Owns bad input: every argument of every call, with wrong types and values; the error names the
argument, and nothing changes."""
import array
import ctypes
import itertools

import pytest

import engine
from tests.support import SMALL, U64_MAX

OID = (1, 2, 3)
NOT_INT = [None, 1.0, "1", b"1", (1,), object()]
NOT_WORD = [-1, U64_MAX + 1, -2**80, 2**200]
NOT_BUFFER = [None, 1, 1.5, "text", [1, 2], object()]
NOT_BOOL = [0, 1, "yes", b"", object()]


class NoBuffer:
    """Looks like bytes, and is not."""

    def __bytes__(self):
        return b"x"

    def __len__(self):
        return 1


STRIDED = memoryview(bytearray(100))[::2]
EMPTY = b""
TYPES = {
    "oid": [None, 1, "oid", b"oid", {1, 2, 3}, {"a": 1}, object(), iter(OID), (1, 2, "3"), (1.0, 2, 3), (None, 2, 3),
            [1, 2, b"3"]],
    "index": NOT_INT,
    "data": [*NOT_BUFFER, NoBuffer()],
    "free": NOT_BOOL,
    "count": NOT_INT,
}
VALUES = {
    "oid": [(), (1, 2), (1, 2, 3, 4), [], (1, 2, -1), (U64_MAX + 1, 2, 3), (1, -2**70, 3)],
    "index": NOT_WORD,
    "data": [bytes(513), bytearray(5000), STRIDED],
    "put buffer": [EMPTY, STRIDED, bytes(512 * 16384 + 1)],
    "get buffer": [b"readonly" * 100, memoryview(bytes(512)), memoryview(bytearray(2000))[::2]],
    "count": [0, -1, 16385, 2**64, 2**200],
}
# (verb, its good arguments); what is replaced in them comes from the tables above.
CALLS = {
    "put": dict(oid=OID, index=0, data=b"x"),
    "get": dict(oid=OID, index=0, free=False),
    "get_into": dict(oid=OID, index=0, buffer=bytearray(512), free=False),
    "flush_page": dict(oid=OID, index=0),
    "flush_object": dict(oid=OID),
    "put_range": dict(oid=OID, index=0, buffer=b"x"),
    "get_range": dict(oid=OID, index=0, count=1, free=False),
    "get_range_into": dict(oid=OID, index=0, count=1, buffer=bytearray(512), free=False),
    "object": dict(oid=OID),
    "object_info": dict(oid=OID),
    "descriptor": dict(oid=OID, index=0),
    "replace": dict(oid=OID, index=0, pampd=1, generation=1),
}


def bad_arguments():
    """(via, verb, argument, bad values, error) for every argument of every call, of a pool and of
    an object's handle."""
    for via, verb in itertools.product(("pool", "object"), CALLS):
        if (via, verb) == ("object", "object"):
            continue
        for argument in CALLS[verb]:
            if (via, argument) == ("object", "oid"):
                continue
            like = {"pampd": "index", "generation": "index"}.get(argument, argument)
            types = NOT_BUFFER if argument == "buffer" else TYPES[like]
            like = (
                {"put_range": "put buffer", "get_into": "get buffer", "get_range_into": "get buffer"}[verb]
                if argument == "buffer"
                else like
            )
            values = VALUES.get(like)
            yield pytest.param(via, verb, argument, types, TypeError, id=f"{via}-{verb}-{argument}-type")
            if values:
                yield pytest.param(via, verb, argument, values, ValueError, id=f"{via}-{verb}-{argument}-value")


@pytest.fixture
def pool(eng):
    made = eng.new_pool("p", persistent=True)
    assert made.put(OID, 0, b"untouched")
    return made


@pytest.mark.parametrize(("via", "verb", "argument", "values", "error"), list(bad_arguments()))
def test_a_bad_argument_of_a_page_call(eng, pool, via, verb, argument, values, error):
    for value in values:
        arguments = {**CALLS[verb], argument: value}
        target = pool
        if via == "object":
            target = pool.object(arguments.pop("oid"))
        with pytest.raises(error, match=rf"\b{argument}\b"):
            getattr(target, verb)(**arguments)
            pytest.fail(f"{verb}({argument}={value!r}) did not raise")
    assert pool.get(OID, 0) == b"untouched" and pool.obj_count == 1
    assert eng.check().ok


def test_arguments_that_are_missing_or_too_many(pool):
    for verb, good in CALLS.items():
        with pytest.raises(TypeError):
            getattr(pool, verb)()
        with pytest.raises(TypeError):
            getattr(pool, verb)(**good, nonsense=1)


@pytest.mark.parametrize(("argument", "values"), [
    ("name", [None, 1, b"bytes", ["x"]]), ("persistent", [None, 1, "yes"]), ("shared", [None, 0, "no"]),
    ("client", ["1", 1.0, True]), ("pam", [None, 1, b"raw"]),
])
def test_new_pool_types(eng, argument, values):
    for value in values:
        with pytest.raises(TypeError, match=rf"\b{argument}\b"):
            eng.new_pool(**{"name": "p", argument: value})
    assert eng.pools() == []


@pytest.mark.parametrize(("argument", "values"), [
    ("name", ["", "x" * 64, "ü" * 32, "a\0b"]), ("client", [-1, 2**32, 2**70]),
])
def test_new_pool_values(eng, argument, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"\b{argument}\b"):
            eng.new_pool(**{"name": "p", argument: value})
    assert eng.pools() == []


def test_new_pool_with_a_back_end_nobody_knows(eng):
    with pytest.raises(engine.TmemError, match="nowhere"):
        eng.new_pool("p", pam="nowhere")
    assert eng.pools() == []


@pytest.mark.parametrize("key", [None, 1.0, b"name", ("a",), True])
def test_pool_takes_a_name_or_an_id(eng, key):
    with pytest.raises(TypeError, match="name_or_id"):
        eng.pool(key)


BAD_CREATE = [
    ("capacity", TypeError, [None, 1.5, b"1MiB", True, ["1MiB"]]),
    ("capacity", ValueError, [0, -1, "", "much", "1 MiBi", "MiB", "-5MiB", "1XiB", 4096, "99999TiB", 2**80]),
    ("page_size", TypeError, [None, "4096", 4096.0, True]),
    ("page_size", ValueError, [0, -512, 256, 513, 1000, 131072, 2**70]),
    ("buckets", TypeError, [None, "16", 16.0, True]),
    ("buckets", ValueError, [0, -1, 3, 100, 8192]),
    ("max_workers", TypeError, [None, "16", 16.0, True]),
    ("max_workers", ValueError, [0, -1, 4097, 2**64]),
    ("max_pools", TypeError, [None, "16", 16.0, True]),
    ("max_pools", ValueError, [0, -1, 65536, 2**64]),
    ("mode", TypeError, [None, "600", 384.0, True]),
    ("mode", ValueError, [-1, 0o1000, 0o4777, 2**64]),
]


@pytest.mark.parametrize(
    ("argument", "error", "values"), BAD_CREATE, ids=lambda it: getattr(it, "__name__", str(it)[:20])
)
def test_create(arena_name, argument, error, values):
    for value in values:
        with pytest.raises(error, match=rf"\b{argument}\b"):
            engine.create(arena_name, **{**SMALL, argument: value})
    with pytest.raises(engine.ArenaNotFound):
        engine.attach(arena_name)


@pytest.mark.parametrize("call", [engine.create, engine.attach, engine.unlink])
def test_names_of_arenas(call):
    for value in (None, 1, b"name", ["name"]):
        with pytest.raises(TypeError, match=r"\bname\b"):
            call(value)
    for value in ("", ".", "..", ".hidden", "a/b", "/a", "a b", "ü", "a\0", "a\n", "x" * 201, "a@b"):
        with pytest.raises(ValueError, match=r"\bname\b"):
            call(value)


def test_create_takes_all_but_name_and_capacity_by_keyword(arena_name):
    with pytest.raises(TypeError):
        engine.create(arena_name, "16MiB", 4096)


@pytest.mark.parametrize(("arguments", "error", "word"), [
    (("2", print), TypeError, "n"), ((1.0, print), TypeError, "n"), ((True, print), TypeError, "n"),
    ((0, print), ValueError, "n"), ((-1, print), ValueError, "n"), ((1, None), TypeError, "target"),
    ((1, "print"), TypeError, "target"),
])
def test_spawn(eng, arguments, error, word):
    with pytest.raises(error, match=rf"\b{word}\b"):
        eng.spawn(*arguments)


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("method", "thread", ValueError),
        ("method", "", ValueError),
        ("restart", 1, TypeError),
        ("restart", None, TypeError),
    ],
)
def test_spawn_keywords(eng, keyword, value, error):
    with pytest.raises(error, match=keyword):
        eng.spawn(1, print, **{keyword: value})


@pytest.mark.parametrize("name", [None, 1, b"x"])
def test_register_pam_name_type(name):
    with pytest.raises(TypeError, match="name"):
        engine.register_pam(name, object)


@pytest.mark.parametrize("name", ["", "raw", "lz4", "zstd", "x" * 300])
def test_register_pam_name_value(name):
    with pytest.raises(ValueError, match="name"):
        engine.register_pam(name, object)


def test_register_pam_factory(eng):
    with pytest.raises(TypeError, match="factory"):
        engine.register_pam("odd", 5)
    engine.register_pam("odd", object)                    # what it makes is looked at when it is first used
    with pytest.raises(TypeError, match="create"):
        eng.new_pool("p", pam="odd")


@pytest.mark.parametrize("ops", [5, "ops", object()])
def test_register_hostops(ops):
    with pytest.raises(TypeError, match="obj_alloc"):
        engine.register_hostops(ops)


def test_buffers_are_released(pool):
    """A buffer handed in is free to be resized after the call, whether it succeeded or not."""
    buffer = bytearray(600)
    for call in (
        lambda: pool.put(OID, 0, buffer),
        lambda: pool.put_range(OID, 0, buffer),
        lambda: pool.get_into(OID, 0, buffer),
        lambda: pool.get_into(OID, 7, buffer),
        lambda: pool.put(OID, -1, buffer),
        lambda: pool.get_into(OID, 0, buffer, 7),
        lambda: pool.get_range_into(OID, 0, 1, buffer),
        lambda: pool.get_range_into(OID, 0, 0, buffer),
        lambda: pool.put_many([(OID, 0), (OID, 1)], [buffer, buffer]),
        lambda: pool.put_many([(OID, 0), (OID, 1)], [buffer, 5]),
    ):
        try:
            call()
        except (TypeError, ValueError):
            pass
        buffer.append(0)
        del buffer[600:]


def test_unusual_ints_and_buffers(pool):
    class Number(int):
        pass

    assert pool.put((Number(1), Number(2), Number(3)), Number(0), ctypes.create_string_buffer(b"abc", 3))
    assert pool.get(OID, 0) == b"abc"
    assert pool.put(OID, 0, array.array("d", [1.0])) and pool.get(OID, 0) == array.array("d", [1.0]).tobytes()
