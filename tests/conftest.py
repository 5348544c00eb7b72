"""Owns the fixtures of the whole suite and its cleanliness: arena names with a prefix of this run,
nothing left in /dev/shm and no child alive after any test, and no run on a build that is older than
its source.
"""
import ast
import collections
import contextlib
import functools
import gc
import itertools
import multiprocessing
import os
import re
import signal
import sys
import sysconfig
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import hypothesis
import pytest

from tests.small import SmallProcess
from tests.support import ROOT, SHM, SMALL, imported, leftovers

PREFIX = f"tmemtest-{os.getpid()}-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-"
_numbers = itertools.count()
# A shell's background job is started with Ctrl-C ignored, and so would be all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TMEM_CHECK_LOCKS"] = "1"        # in every process that the tests start: a lock out of order ends it
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    os.environ.setdefault("PYTHON_GIL", "0")    # else each says on its standard error that the lock comes on

hypothesis.settings.register_profile(
    "tmem", derandomize=True, database=None, deadline=None, print_blob=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tmem")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two more than there are cores: many tests wait for a while, for a death or a grace period."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Who has nothing left to do takes from who has: else the last minute is one worker's."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


# --- the build under test -------------------------------------------------------------------------


def compiled_modules():
    """The names in setup.py's COMPILED."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "COMPILED":
            return node.value.func.value.value.split()
    raise AssertionError("setup.py has no COMPILED")


@functools.cache
def sources_of(name):
    """The files that decide how a module is compiled: its own, and every .pxd it cimports, near or
    far."""
    stem = ROOT / name.replace(".", "/")
    found = {path for path in (stem.with_suffix(".py"), stem.with_suffix(".pxd")) if path.exists()}
    pending = set(found)
    while pending:
        names = imported(pending.pop().read_text(), compiled=True)
        declared = {(ROOT / one.replace(".", "/")).with_suffix(".pxd") for one in names}
        new = {path for path in declared - found if path.exists()}
        found |= new
        pending |= new
    return found


def stale_modules():
    """(module, why) for every compiled module that is missing or older than a source of it."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name in compiled_modules():
        built = Path(f"{ROOT / name.replace('.', '/')}{suffix}")
        if not built.exists():
            yield name, "is not built"
            continue
        newest = max(sources_of(name), key=lambda path: path.stat().st_mtime)
        if newest.stat().st_mtime > built.stat().st_mtime:
            yield name, f"is older than {newest.relative_to(ROOT)}"


def is_installed():
    """True where the tests lie without the source, so that what is tested is what was installed."""
    return not (ROOT / "engine").exists()


def pytest_configure(config):
    if is_installed() or hasattr(config, "workerinput"):       # who has started this one has looked
        return
    stale = [f"  {name} {why}" for name, why in stale_modules()]
    if stale:
        text = "\n".join(stale)
        pytest.exit(f"compiled modules are missing or stale; type `make setup` and try again:\n{text}", returncode=4)


def pytest_report_header(config):
    import engine

    folder = Path(engine.__file__).parent
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = [
        path.stat().st_mtime for layer in ("engine", "shm") for path in (folder.parent / layer).rglob(f"*{suffix}")
    ]
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", without the GIL"
    return f"tmem under test: {folder}, {len(compiled)} compiled modules, newest {max(compiled):.0f}{gil}"


def pytest_terminal_summary(terminalreporter):
    """What was left out, in one line, with how to have it."""
    reasons = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ())
    )
    if reasons:
        terminalreporter.write_line(
            "left out: " + "; ".join(f"{count} ({reason})" for reason, count in reasons.most_common())
        )


# --- where a test runs ----------------------------------------------------------------------------


small_processes = []                # the one of this process, as soon as a test has needed it


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test that is marked `small` runs in a process in which a fork is cheap, but for whoever
    wants to look at it in a debugger."""
    if pyfuncitem.get_closest_marker("small") is None or pyfuncitem.config.getoption("usepdb"):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    record = arguments.get("record_property")
    if record is not None:
        arguments["record_property"] = None     # is made there
    if not small_processes:
        small_processes.append(SmallProcess())
    function = pyfuncitem.function
    recorded, printed, wrong = small_processes[0].run(function.__module__, function.__name__, arguments)
    for pair in recorded:
        record(*pair)
    print(printed, end="")
    if wrong is not None:
        pytest.fail(f"in a small process (see tests/small.py):\n{wrong}", pytrace=False)
    return True


def pytest_unconfigure():
    while small_processes:
        small_processes.pop().close()


# --- cleanliness ----------------------------------------------------------------------------------


def pytest_sessionstart(session):
    """What a run that was killed has left goes when the next one starts: nobody else would."""
    if hasattr(session.config, "workerinput"):
        return
    for file in leftovers("tmemtest-"):
        pid = re.search(r"tmemtest-(\d+)-", file)
        if pid and not Path(f"/proc/{pid[1]}").exists():
            (SHM / file).unlink(missing_ok=True)


def living_children():
    """Pids of child processes that run, those aside that multiprocessing keeps for itself."""
    multiprocessing.active_children()
    own = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}
    own.update(small.pid for small in small_processes)
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            text = Path(f"/proc/self/task/{task}/children").read_text()
        except OSError:
            continue
        for pid in map(int, text.split()):
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if pid not in own and state not in "ZX":
                found.append(pid)
    return found


@pytest.fixture(autouse=True)
def _nothing_left():
    """After the test: back ends as they were, no file of this run's arenas, no child.

    And before it no callback of hypothesis's in the collector: it is Python that runs wherever
    memory is allocated, also in the middle of a call, and a signal handler that runs there has its
    exception lost."""
    gc.callbacks[:] = [call for call in gc.callbacks if not call.__module__.startswith("hypothesis")]
    yield
    engine = sys.modules.get("engine")
    if engine is not None:
        engine.register_hostops(None)
    children = living_children()
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    files = leftovers(PREFIX)
    for file in files:
        (SHM / file).unlink(missing_ok=True)
    assert not children, f"children still alive: {children}"
    assert not files, f"left in {SHM}: {files}"


# --- arenas ---------------------------------------------------------------------------------------


@pytest.fixture
def arena_name():
    """A name of an arena that is not there. Removed afterwards if the test made it."""
    import engine

    name = f"{PREFIX}{next(_numbers)}"
    yield name
    try:
        engine.unlink(name)
    except engine.ArenaNotFound:
        pass
    except engine.ArenaCorrupted:       # the test has put something else there
        (SHM / name).unlink(missing_ok=True)
        with contextlib.suppress(engine.ArenaNotFound):
            engine.unlink(name)         # what lay beside it


@pytest.fixture
def eng(arena_name):
    """A small arena (see support.SMALL), attached."""
    import engine

    with engine.create(arena_name, **SMALL) as made:
        yield made


@pytest.fixture
def make_arena():
    """Make further arenas, with other arguments; closed and removed afterwards."""
    import engine

    made = []

    def make(**arguments):
        made.append(engine.create(f"{PREFIX}{next(_numbers)}", **{**SMALL, **arguments}))
        return made[-1]

    yield make
    for one in made:
        one.close()
        try:
            engine.unlink(one.name)
        except engine.ArenaNotFound:
            pass
