"""Owns the check of the adapter to fsspec: the abstract tests that fsspec has for file systems,
which come with it, on ours."""
import os

from tests.hosts.host import ROOT


def check(host):
    suite = ROOT / "tests/hosts/fsspec_suite.py"
    host.pytest(["-c", os.devnull, "--rootdir", host.folder, "--confcutdir", suite.parent, suite])
