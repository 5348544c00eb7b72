"""Run by `make check-dist` in an environment that holds only the wheel: what was installed is whole
and works.

Not a test of the suite: the suite runs on the source tree, and would not notice a file missing from
the wheel.
"""
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import engine
import shm

HERE = Path(sys.prefix).resolve()
REQUIRED = ["engine/__init__.pyi", "engine/py.typed", "engine/cli/page.html", "tmem/__init__.py", "tmem/py.typed",
            "tmem/dashboard.json", "stress/commands.py"]
MOST = 3_400_000         # bytes of a wheel: more, and the symbols or the sources of compiled modules are in it again


def main():
    for package in (engine, shm):
        assert HERE in Path(package.__file__).resolve().parents, f"{package} is not the installed one"
    files = {str(path) for path in metadata.files("tmem")}
    absent = [path for path in REQUIRED if path not in files]
    assert not absent, f"not in the wheel: {absent}"
    compiled = {path.split(".")[0] for path in files if path.endswith(".so")}
    sources = [path for path in files if path.endswith((".pxd", ".c")) or path.removesuffix(".py") in compiled]
    assert compiled and not sources, f"compiled, and in the wheel as sources too: {sources}"
    size = sum(path.stat().st_size for path in Path.cwd().glob("tmem-*.whl"))
    assert size < MOST, f"the wheel has {size} bytes"
    assert any(path.endswith("scenario.toml") for path in files), "no stress scenario in the wheel"

    name = f"wheel-check-{Path(sys.prefix).stat().st_ino}"
    with engine.create(name, capacity="8MiB") as eng:
        try:
            pool = eng.new_pool("pages", persistent=True)
            assert pool.put(engine.oid("key"), 0, b"page") and pool.get(engine.oid("key"), 0) == b"page"
            assert eng.check().ok
        finally:
            engine.unlink(name)

    # Without the extra, the command line says what to install.
    told = subprocess.run([HERE / "bin" / "tmem", "ls"], capture_output=True, text=True)
    assert told.returncode == 2 and "pip install 'tmem[cli]'" in told.stderr, told
    print(f"the wheel of tmem {metadata.version('tmem')} works")


main()
