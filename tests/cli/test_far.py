"""Owns `tmem spill` and `tmem far`, without a server; what they say of servers is in
tests/servers."""
import json

from click.testing import CliRunner

from engine.cli.commands import main
from engine.cli.far import quantile
from tests.contract.fars import PAGE, content


def tmem(*args):
    return CliRunner().invoke(main, args)


def filled(make_arena, tmp_path):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far=f"file://{tmp_path}/far?size=16MiB")
    for n in range(700):
        pool.put((n // 16, 0, 0), n % 16, content(n))
    return eng


def test_spill(make_arena, tmp_path):
    eng = filled(make_arena, tmp_path)
    done = tmem("spill", eng.name, "--once")
    assert done.exit_code == 0 and "pages spilled" in done.output
    done = tmem("spill", eng.name, "--seconds", "0.05", "--json")
    assert done.exit_code == 0 and set(json.loads(done.output.splitlines()[-1])) == {"spilled"}
    assert tmem("spill", "there-is-none").exit_code == 1


def test_stat(make_arena, tmp_path):
    eng = filled(make_arena, tmp_path)
    eng.spill()
    done = tmem("far", "stat", eng.name)
    assert done.exit_code == 0 and "pages far" in done.output and "file://" in done.output
    said = json.loads(tmem("far", "stat", eng.name, "--json").output)
    assert said["nonce"] == eng.far_nonce and said["pools"][0]["pool"] == "p" and said["pools"][0]["far_pages"] > 0
    plain = make_arena(capacity="2MiB", huge_pages=False)
    assert "no pool has a far tier" in tmem("far", "stat", plain.name).output


def test_gc_and_ls(make_arena, tmp_path):
    eng = filled(make_arena, tmp_path)
    assert "0 names, 0 dropped" in tmem("far", "gc", eng.name).output       # a file has no names
    for wrong in (("gc",), ("gc", eng.name, "--target", "valkey://h"), ("gc", "--nonce", "0" * 16),
                  ("gc", "--target", "file:///x?size=8MiB", "--nonce", "0" * 16), ("ls", "file:///x"),
                  ("ls", "valkey://")):
        assert tmem("far", *wrong).exit_code == 2, wrong


def test_the_ends_of_columns():
    assert quantile([0] * 14, .5) is None
    assert quantile([9, 1, 0], .5) == 64e-6 and quantile([9, 1, 0], .99) == 128e-6
    assert quantile([0, 0, 5], .5) == 256e-6
