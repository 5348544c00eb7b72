"""Owns conformance: the traces of the original, when they lie beside the project, and the project's
own traces."""
import gzip
from pathlib import Path

import pytest

from tests.conformance.generate import RECIPES, write
from tests.conformance.replay import replay
from tests.support import ROOT

ORIGINAL = ROOT.parent / "shared" / "conformance"
OWN = Path(__file__).parent / "data"
NO_ORIGINAL = "no traces of the original at ../shared/conformance"


def files(folder):
    """The traces in a folder, as parameters named by file."""
    return [pytest.param(path, id=path.name.removesuffix(".jsonl.gz")) for path in sorted(folder.glob("*.jsonl.gz"))]


@pytest.fixture
def wide(make_arena):
    return make_arena(capacity="128MiB", buckets=16)


@pytest.mark.parametrize("path", files(ORIGINAL) or [pytest.param(None, marks=pytest.mark.skip(reason=NO_ORIGINAL))])
def test_original(wide, path):
    replay(wide, path)


@pytest.mark.parametrize("path", files(OWN))
def test_own(wide, path):
    replay(wide, path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_own_traces_are_what_the_generator_makes(recipe, tmp_path):
    committed = (OWN / f"{recipe.name}.jsonl.gz").read_bytes()
    assert gzip.decompress(write(recipe, tmp_path).read_bytes()) == gzip.decompress(committed)
