"""Owns the rule that no object of an extension type, however it was come by, ends the interpreter:
what only the engine makes cannot be made from Python, and what can be made without being set up
raises. Every type and function of every compiled module is found by itself.

Each is tried in a forked child of one fresh process, so that a crash is that child's alone, and is
told by its signal.
"""
import copy
import copyreg
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap

import pytest

import engine
from tests.conftest import compiled_modules
from tests.support import ROOT, SMALL

SEALED = {"Engine", "Pool", "Object", "Client", "Lease", "View", "Pin", "Attachment"}


def types_of_all():
    """Every type that a compiled module defines."""
    modules = [__import__(name, fromlist=["_"]) for name in compiled_modules()]
    return [found for module in modules for found in vars(module).values()
            if isinstance(found, type) and found.__module__ == module.__name__]


def functions_of_all():
    """Every function that a compiled module lets Python call, those aside whose name says that they
    are for their own module."""
    modules = [__import__(name, fromlist=["_"]) for name in compiled_modules()]
    return [found for module in modules for found in vars(module).values()
            if getattr(found, "__module__", None) == module.__name__ and callable(found) and not isinstance(found, type)
            and not found.__name__.startswith("_")]


def ways_to_make(kind):
    """(name, call) of every way in which Python may come by an object of a type."""
    bare = type("Bare", (kind,), {"__init__": lambda self: None}) if kind.__flags__ & 1 << 10 else None
    renewed = type("Renewed", (kind,), {"__new__": lambda cls: kind.__new__(cls)}) if bare else None
    return [
        ("call", lambda: kind()),
        ("__new__", lambda: kind.__new__(kind)),
        ("object.__new__", lambda: object.__new__(kind)),
        ("copyreg", lambda: copyreg.__newobj__(kind)),
        ("copyreg of old", lambda: copyreg._reconstructor(kind, object, None)),
        ("subclass without __init__", lambda: bare()),
        ("subclass with __new__", lambda: renewed()),
        ("None", lambda: kind(None)),
        ("Nones", lambda: kind(None, None)),
    ]


def use(thing):
    """Everything that can be done to an object: an exception is an answer, a signal is not."""
    def attempt(call, *args):
        try:
            return call(*args)
        except Exception:
            return None

    for name in dir(thing):
        if name in ("__class__", "__del__"):
            continue
        found = attempt(getattr, thing, name)
        if callable(found):
            for args in ((), (None,), (0,), (2**64,), (None, None), (0, 0), ((1, 2, 3), 0), ((1, 2, 3), 0, b"page"),
                         ((1, 2, 3), 0, 1), (0, 0, bytearray(8)), ((1, 2, 3), 0, 1, bytearray(8)), ([], [])):
                attempt(found, *args)
        attempt(setattr, thing, name, None)
    for call in (repr, str, bytes, hash, bool, len, iter, list, memoryview, copy.copy, copy.deepcopy, dir):
        attempt(call, thing)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        attempt(pickle.loads, attempt(pickle.dumps, thing, protocol))

    def enter():
        with thing as entered:
            return entered

    attempt(enter)


def in_a_child(call):
    """None, or how a forked child that ran call() ended, if not by itself."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            call()
        except Exception:
            pass
        finally:
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None


def use_all_types():
    """What went wrong, as text: each type, made in each way, used in every manner, and dropped."""
    def make_and_use(make):
        use(make())

    return [
        f"{kind.__module__}.{kind.__name__} by {name}: {ended}"
        for kind in types_of_all()
        for name, make in ways_to_make(kind)
        if (ended := in_a_child(lambda make=make: make_and_use(make))) is not None
    ]


def call_all_functions():
    """What went wrong, as text: each function with Nones, with numbers that lead nowhere, and with
    a closed engine."""
    wrong = []
    closed = engine.attach(sys.argv[1])
    closed.close()
    for function in functions_of_all():
        for first in (None, 0, closed):
            def call_each(function=function, first=first):
                for rest in (
                    (),
                    (None,),
                    (10**6,),
                    (None, None),
                    (10**6, 1),
                    (10**6, 10**6),
                    (None,) * 3,
                    (10**6,) * 3,
                    (10**6,) * 4,
                ):
                    try:
                        function(first, *rest)
                    except Exception:
                        pass
            ended = in_a_child(call_each)
            if ended is not None:
                wrong.append(f"{function.__module__}.{function.__name__}({type(first).__name__}, ...): {ended}")
    return wrong


def in_a_fresh_process(function, *args):
    code = textwrap.dedent(f"""
        import json, tests.contract.test_blank_objects as here
        print(json.dumps(here.{function}()))
    """)
    done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_all_types_are_found():
    assert SEALED <= {kind.__name__ for kind in types_of_all()} and len(types_of_all()) >= 15


def test_nothing_that_is_done_to_a_blank_object_ends_the_interpreter():
    assert in_a_fresh_process("use_all_types") == []


def test_no_function_called_with_nonsense_ends_the_interpreter(eng):
    assert in_a_fresh_process("call_all_functions", eng.name) == []


@pytest.mark.parametrize(
    "kind", [kind for kind in types_of_all() if kind.__name__ in SEALED], ids=lambda kind: kind.__name__
)
def test_what_the_engine_makes_nobody_else_makes(kind):
    for name, make in ways_to_make(kind):
        with pytest.raises(TypeError):
            pytest.fail(f"{name}: {make()!r}")
    with pytest.raises(TypeError, match=f"^{kind.__name__}: made by "):
        kind()


def test_objects_that_may_be_made_still_are(eng):
    from engine.tree.hostops import HostOps

    engine.register_hostops(HostOps())
    pool = eng.new_pool("p")
    assert pool.put((1, 2, 3), 0, b"page") and pool.get((1, 2, 3), 0) == b"page"


def test_an_engine_is_set_up_once(eng):
    pool = eng.new_pool("p", persistent=True)
    for args in ((), (None, None), (eng, None)):
        try:
            eng.__init__(*args)
        except TypeError:
            pass
    assert pool.put((1, 2, 3), 0, b"page") and eng.pool("p").get((1, 2, 3), 0) == b"page" and eng.check().ok


@pytest.mark.parametrize(
    "copier",
    [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_pin_and_a_view_are_not_copied(make_arena, copier):
    """A second Pin of one pin would let go of it twice: of another's the second time."""
    eng = make_arena(max_pinned="64KiB")
    pool = eng.new_pool("p", persistent=True)
    pool.put((1, 2, 3), 0, bytes(range(256)))
    view = pool.view((1, 2, 3), 0)
    with view as page:
        for thing in (page.obj, view):
            with pytest.raises(TypeError):
                copier(thing)
        before = eng.stats()["arena"]["pinned_bytes"]
        assert before > 0
    assert eng.stats()["arena"]["pinned_bytes"] == 0 and eng.check().ok


NONSENSE = [(None, 0, 1), (0, 0, 1), ("name", 0, 1)]


@pytest.mark.parametrize("args", NONSENSE, ids=repr)
def test_factories_want_an_engine(args):
    from engine.api.client import open_client
    from engine.api.handle import open_object
    from engine.api.pool import open_pool

    for factory in (lambda: open_pool(*args), lambda: open_object(args[0], (1, 2, 3)), lambda: open_client(args[0], 1)):
        with pytest.raises(TypeError):
            factory()


@pytest.mark.parametrize(
    "idx, gen, error",
    [
        (10**6, 1, engine.PoolNotFound),
        (2**64, 1, ValueError),
        (-1, 1, ValueError),
        ("p", 1, TypeError),
        (None, 1, TypeError),
        (0, 0, engine.PoolDestroyed),
        (0, 2, engine.PoolDestroyed),
        (0, -1, ValueError),
        (0, None, TypeError),
        (1, 1, engine.PoolNotFound),
        (SMALL["max_pools"], 1, engine.PoolNotFound),
    ],
)
def test_a_pool_is_opened_where_there_is_one(eng, idx, gen, error):
    from engine.api.pool import open_pool

    pool = eng.new_pool("p")
    assert open_pool(eng, pool.id, 1).name == "p"
    with pytest.raises(error):
        open_pool(eng, idx, gen)
