"""The reference that the site has (docs/site/reference.py): all that is public is in it, with how
it is called and what it says of itself."""
import importlib.util
import inspect
import re

import pytest

import engine
from tests.support import ROOT

spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/site/reference.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
PAGES = reference.pages()
TEXT = "\n".join(PAGES.values())


def methods(kind):
    """Public methods of a class, as the compiled class has them."""
    return [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]


@pytest.mark.parametrize("name", engine.__all__)
def test_every_public_name_is_in_the_reference(name):
    assert f"\n## {name} {{#{name.lower()}}}\n" in TEXT
    assert re.search(rf"^- \[`{name}`\]\(\w+\.md#{name.lower()}\): \S+ .+\.$", PAGES["reference/index.md"], re.M)


CLASSES = [kind for kind in vars(engine).values() if inspect.isclass(kind) and not issubclass(kind, (Exception, tuple))]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_method_is_in_the_reference_with_its_text(kind):
    declared = reference.declared(reference.MEMBERS[kind.__name__][0].body)
    for name in methods(kind):
        if name in declared and not reference.is_attribute(declared[name][0]):
            first = inspect.getdoc(getattr(kind, name)).split()[0]
            part = TEXT.partition(f"### {kind.__name__}.{name} {{")[2].partition("\n## ")[0]
            assert re.search(rf"```python\n{name}\(", part) and first.rstrip(".,") in part


def test_the_caveats_say_of_every_error_what_to_do():
    section = (ROOT / "docs/caveats.md").read_text().partition("\n## What an error means\n")[2]
    errors = reference.PAGES["errors"][2]
    assert "ArenaBusy" in errors and [name for name in errors if f"`{name}`" not in section] == []


def test_signatures_have_neither_self_nor_a_body():
    blocks = re.findall(r"^```python\n(.*?)\n```$", "\n".join(PAGES[name] for name in PAGES if "index" not in name),
                        re.M | re.S)
    assert len(blocks) > 100 and not [block for block in blocks if re.search(r"\bself\b|: \.\.\.$", block)]
