"""Owns the check of the adapter to zarr: the tests that zarr has for stores, and its machines of
states, which come with it, on ours."""
import os

from tests.hosts.host import ROOT


def check(host):
    host.install("pytest-asyncio>=1", "hypothesis>=6.100")
    suite = ROOT / "tests/hosts/zarr_suite.py"
    options = ["-o", "asyncio_mode=auto", "--rootdir", host.folder, "--confcutdir", suite.parent]
    host.pytest(["-c", os.devnull, *options, suite], plugins=["pytest_asyncio.plugin", "_hypothesis_pytestplugin"])
