"""Owns running the hosts' suites: python -m tests.hosts.run [HOST ...]; without a name, all.

A host is a module `host_NAME` beside this one, with a function `check(host)`. One is run here, and
several each in a process of its own, some at a time, since much of what they do is waiting."""
import concurrent.futures
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.hosts.host import ROOT, Failed, Host

NAMES = sorted(path.stem.removeprefix("host_") for path in Path(__file__).parent.glob("host_*.py"))


def run_one(name):
    """Check a host; whether it passed."""
    begun = time.monotonic()
    host = Host(name)
    passed = True
    try:
        importlib.import_module(f"tests.hosts.host_{name}").check(host)
    except Failed as error:
        passed = False
        print(f"FAILED {name}: {error}")
    finally:
        host.clean()
    print(f"-- {name}: {'; '.join(host.summaries)} ({time.monotonic() - begun:.0f} s)", flush=True)
    return passed


def run_apart(name):
    """Check a host in a process of its own: its exit status, and what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "tests.hosts.run", name], cwd=ROOT, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )


def run_all(names):
    """Check hosts, and print what each said when it has ended; the names of those that failed."""
    failed = []
    with concurrent.futures.ThreadPoolExecutor((os.cpu_count() or 1) + 1) as threads:
        running = {threads.submit(run_apart, name): name for name in names}
        for done in concurrent.futures.as_completed(running):
            print(f"\n== {running[done]}\n{done.result().stdout}", end="", flush=True)
            if done.result().returncode != 0:
                failed.append(running[done])
    return failed


def main(names):
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"no host {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        return 0 if run_one(names[0]) else 1
    names = names or NAMES
    failed = run_all(names)
    print(f"\n{len(names) - len(failed)} hosts passed, {len(failed)} failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
