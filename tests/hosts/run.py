"""Owns running the hosts' suites: python -m tests.hosts.run [HOST ...]; without a name, all.

A host is a module `host_NAME` beside this one, with a function `check(host)`."""
import importlib
import sys
import time
from pathlib import Path

from tests.hosts.host import Failed, Host

NAMES = sorted(path.stem.removeprefix("host_") for path in Path(__file__).parent.glob("host_*.py"))


def main(names):
    unknown = set(names) - set(NAMES)
    if unknown:
        print(f"no host {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    failed = []
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        host = Host(name)
        try:
            importlib.import_module(f"tests.hosts.host_{name}").check(host)
        except Failed as error:
            failed.append(name)
            print(f"FAILED {name}: {error}")
        finally:
            host.clean()
        print(f"-- {name}: {'; '.join(host.summaries)} ({time.monotonic() - begun:.0f} s)", flush=True)
    print(f"\n{len(names or NAMES) - len(failed)} hosts passed, {len(failed)} failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
