"""Owns the rule that the offsets and sizes written down are those that are compiled: in the tables
of docs/arena-layout.md, in the comments beside the structs, and in what the attacks read from the
source.
"""
import importlib.util
import re
import subprocess
import sys

import pytest

from engine.layout import geometry
from shm.arena import assert_sizes, regions
from shm.segments import sizes
from tests.hostile import structs
from tests.support import ROOT, child_env

PAGE = (ROOT / "docs/arena-layout.md").read_text()
DECLARED = {"shm.layout": ROOT / "shm/layout.pxd", "engine.layout.structs": ROOT / "engine/layout/structs.pxd"}
# Structs of a process, and what several begin with.
ELSEWHERE = {"Worker", "Head"}
# How the page calls a struct, where that is not its name in the source; and the size it has a right
# to.
CALLED = {
    "Client": "ClientRecord",
    "Client page": "ClientPage",
    "Pool record": "PoolRecord",
    "Twin bucket": "TwinBucket",
    "Lease bucket": "LeaseBucket",
}
PLACES = {"Slot": "SLOT_BYTES"}

_COMMENTED = re.compile(r"^#   (\d+)\s+(\w+)", re.MULTILINE)


def fields_of(path):
    """{struct: its fields} of a .pxd, those of a process aside."""
    found = {}
    for name, body in re.findall(r"^cdef struct (\w+):\n((?: {4}.*\n)+)", path.read_text(), re.MULTILINE):
        if name not in ELSEWHERE:
            found[name] = re.findall(r"^ {4}\w+ \*?(\w+)", body, re.MULTILINE)
    return found


FIELDS = {name: fields for path in DECLARED.values() for name, fields in fields_of(path).items()}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """{struct: (its size, {field: (offset, size)})}, as the C compiler has it."""
    folder = tmp_path_factory.mktemp("probe")
    lines = [f"from {module} cimport {', '.join(fields_of(path))}" for module, path in DECLARED.items()]
    for name, fields in FIELDS.items():
        each = ", ".join(f"'{f}': (<size_t>&(<{name} *>0).{f}, sizeof((<{name} *>0).{f}))" for f in fields)
        lines.append(f"{name.upper()} = (sizeof({name}), {{{each}}})")
    source = folder / "layout_probe.pyx"
    source.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "Cython.Build.Cythonize", "-q", "-i", "-3", source.name]
    subprocess.run(command, cwd=folder, env=child_env(PYTHONPATH=str(ROOT), CFLAGS="-O0"), check=True,
                   capture_output=True)
    spec = importlib.util.spec_from_file_location("layout_probe", next(folder.glob("layout_probe*.so")))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: getattr(module, name.upper()) for name in FIELDS}


def tables(text):
    """{name of a struct: (its size or None, [(offset, field, how many or None)])} of a page."""
    found = {}
    for title, words, rows in re.findall(
        r"^\*\*([A-Z][\w ]+)\*\*,((?:.|\n(?!\n))*)\n\n\| offset \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE
    ):
        size = re.match(r" (\d+) bytes", words)
        cells = [[cell.strip() for cell in row.split("|")[1:3]] for row in rows.splitlines()]
        fields = [(int(at), *re.match(r"(\w+)(?:\[(\d+)\])?", what).groups()) for at, what in cells]
        found[CALLED.get(title, title)] = size and int(size[1]), fields
    return found


TABLES = tables(PAGE)


def differences(said, compiled):
    """What a table says of one struct that is not so."""
    size, fields = said
    wrong = []
    if [field for _, field, _ in fields] != list(compiled[1]):
        wrong.append(f"fields {[field for _, field, _ in fields]}, compiled {list(compiled[1])}")
    for at, field, many in fields:
        offset, size_of = compiled[1].get(field, (at, None))
        if at != offset:
            wrong.append(f"{field} at {at}, compiled at {offset}")
        if many and size_of and size_of % int(many):
            wrong.append(f"{field}[{many}] in {size_of} bytes")
    return wrong


@pytest.mark.parametrize("name", FIELDS)
def test_the_page_says_of_each_field_where_it_lies(name, compiled):
    assert differences(TABLES[name], compiled[name]) == []


@pytest.mark.parametrize("name", FIELDS)
def test_the_page_says_how_large_each_struct_is(name, compiled):
    said, _ = TABLES[name]
    room = structs.CONSTANTS[PLACES[name]] if name in PLACES else compiled[name][0]
    assert said in (room, None) and compiled[name][0] <= room
    assert said or name in ("Header", "Depot", "ClientPage"), "of those the page says which page they are"


@pytest.mark.parametrize("name", FIELDS)
def test_a_comment_beside_a_struct_says_the_same(name, compiled):
    for path in DECLARED.values():
        above, found, _ = path.read_text().partition(f"\ncdef struct {name}:\n")
        if found:
            block = above[above.rfind("\n\n"):]
            said = {field: int(at) for at, field in _COMMENTED.findall(block)}
            offsets = {field: at for field, (at, _) in compiled[name][1].items()}
            # The magazines and the arrays of words say it in a sentence.
            assert said or name == "Magazine"
            assert {field: offsets.get(field) for field in said} == said
            assert not said or {f for f in offsets if "spare" not in f} <= set(said)


@pytest.mark.parametrize("name", FIELDS)
def test_the_attacks_know_the_structs(name, compiled):
    assert structs.SIZES[name] == compiled[name][0]
    assert {field: at for field, (at, _, _) in structs.STRUCTS[name].items()} == {
        field: at for field, (at, _) in compiled[name][1].items()
    }


def test_the_page_has_no_table_of_a_struct_that_is_gone():
    assert set(TABLES) == set(FIELDS) | {"Ledger"}


def test_every_struct_of_the_engine_is_compared_with_what_it_lies_in(compiled):
    assert set(geometry.SIZES) == set(fields_of(DECLARED["engine.layout.structs"]))
    with pytest.raises(ImportError, match="Bucket"):
        assert_sizes({"Bucket": (72, 64), "Obj": (64, 64)})


def test_the_page_names_the_words_of_a_ledger():
    size, words = TABLES["Ledger"]
    c = structs.CONSTANTS
    names = {"objects", "objnodes", "pages", "bytes_asked", "bytes_used", "bytes_stored"}
    assert size == c["LEDGER_BYTES"]
    for at, word, many in words:
        if word == "spare":
            assert at + 8 * int(many) == size
        else:
            assert at == 8 * c[f"GAUGE_{word}".upper() if word in names else word.upper()]
    assert [at for at, _, _ in words] == list(range(0, 8 * len(words), 8))


def test_the_page_lists_the_chunk_sizes():
    text = re.search(r"Chunk sizes in bytes, by class: ([^a-z]*) and (\d+) as class 39", PAGE)
    assert [int(n) for n in re.findall(r"\d+", text[1])] + [int(text[2])] == sizes()


def test_the_page_says_where_the_tables_of_an_arena_of_defaults_end():
    said = int(re.search(r"the tables end at\s+offset ([\d,]+)", PAGE)[1].replace(",", ""))
    workers, pools, shards = 256, 1024, 64
    pages = (64 << 20) // 4096
    client = geometry.client_bytes(pools, 256, shards, 2 * pages // shards, (64 << 20) // 8192)
    found = regions({
        "max_workers": workers, "bounce_bytes": 4096, "ledger_bytes": geometry.ledger_bytes(pools),
        "client_bytes": -(-client // 4096) * 4096, "seg_total": 256, "seg_shift": 18,
    })
    assert found["segments"] == said


@pytest.mark.parametrize(
    "said, noticed",
    [
        ((32, [(0, "owner", None), (8, "seq", None)]), []),
        ((32, [(0, "owner", None), (16, "seq", None)]), ["seq at 16, compiled at 8"]),
        ((32, [(0, "owner", None)]), ["fields ['owner'], compiled ['owner', 'seq']"]),
    ],
)
def test_a_table_that_is_wrong_is_noticed(said, noticed):
    assert differences(said, (32, {"owner": (0, 8), "seq": (8, 8)})) == noticed
