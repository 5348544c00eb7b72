"""Every command of `tmem`: its answer for people, its answer in JSON, and its exit status."""
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from importlib import metadata

import pytest
from click.testing import CliRunner

import engine
from engine.capacity import balloon
from engine.cli import commands as cli
from engine.cli import looks
from tests.support import ROOT, child_env

WIDE = {"COLUMNS": "300"}


def tmem(*args, status=0):
    """Run a command in this process; its standard output."""
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], env=WIDE)
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def tmem_json(*args, status=0):
    return json.loads(tmem(*args, "--json", status=status))


@pytest.fixture
def filled(eng):
    pool = eng.new_pool("thumbs", persistent=True)
    for index in range(3):
        assert pool.put((1, 2, 3), index, b"x" * 100)
    assert pool.get((1, 2, 3), 0) and pool.get((1, 2, 3), 99) is None
    return eng


def test_create_makes_the_arena_asked_for(arena_name):
    made = tmem_json("create", arena_name, "--capacity", "8MiB", "--page-size", 1024, "--buckets", 16,
                     "--max-workers", 4, "--max-pools", 7, "--mode", "660", "--group", os.getgid())
    assert made == {
        "name": arena_name,
        "capacity": made["capacity"],
        "max_capacity": made["capacity"],
        "page_size": 1024,
        "buckets": 16,
        "max_workers": 4,
        "max_pools": 7,
        "mode": "0660",
    }
    assert stat.S_IMODE(os.stat(f"/dev/shm/{arena_name}").st_mode) == 0o660
    with engine.attach(arena_name) as eng:
        assert (eng.page_size, eng.buckets, eng.max_workers, eng.capacity) == (1024, 16, 4, made["capacity"])


def test_create_gives_the_whole_capacity_its_memory(arena_name):
    tmem("create", arena_name, "--capacity", "8MiB", "--preallocate")
    assert os.stat(f"/dev/shm/{arena_name}").st_blocks * 512 > 8 << 20
    with engine.attach(arena_name) as eng:
        assert eng.stats()["arena"]["bytes_backed"] > 8 << 20 and eng.check().ok


def test_resize(filled):
    before = filled.capacity
    assert tmem_json("resize", filled.name, "2MiB") == {"name": filled.name, "before": before, "capacity": 2 << 20}
    assert filled.capacity == 2 << 20
    assert "2.0 MiB -> 16.0 MiB" in tmem("resize", filled.name, before)
    tmem("resize", filled.name, "much", status=2)
    tmem("resize", filled.name, "1TiB", status=2)
    tmem("resize", filled.name + "x", "2MiB", status=1)


def test_balloon_follows_until_its_count(filled, monkeypatch):
    monkeypatch.setattr(balloon, "read_pressure", lambda: 20.0)
    monkeypatch.setattr(balloon, "read_cgroup", lambda: None)
    monkeypatch.setattr(cli, "read_pressure", lambda: 20.0)
    steps = [
        json.loads(line)
        for line in tmem(
            "balloon", filled.name, "--count", 3, "--interval", 0.01, "--min", "8MiB", "--json"
        ).splitlines()
    ]
    assert [step["capacity"] for step in steps] == [12 << 20, 9 << 20, 8 << 20] and filled.capacity == 8 << 20
    assert tmem("balloon", filled.name, "--count", 1, "--interval", 0.01, "--min", "6MiB").startswith(
        f"{filled.name}: 8.0 MiB -> 6.0 MiB"
    )
    for wrong in (
        ("--min", "17MiB"),
        ("--max", "17MiB"),
        ("--min", "100"),
        ("--min", "9MiB", "--max", "8MiB"),
        ("--max", "much"),
    ):
        tmem("balloon", filled.name, "--count", 1, "--interval", 0.01, *wrong, status=2)


def test_tend(filled):
    nothing = {"rounds": 1, "dead": 0, "inherited": 0, "merged": 0, "given": 0, "buried": 0, "spilled": 0}
    assert tmem_json("tend", filled.name, "--once") == nothing
    assert tmem("tend", filled.name, "--once") == (
        f"{filled.name}: 0 segments emptied, 0 given back, 0 dead workers settled, garbage of 0 taken apart, "
        "0 expired objects taken out, 0 pages spilled\n"
    )
    assert tmem("tend", filled.name, "--seconds", 0.15) == ""
    assert [json.loads(line) for line in tmem("tend", filled.name, "--seconds", 0, "--json").splitlines()] == [nothing]
    tmem("tend", filled.name, "--seconds", -1, status=2)
    tmem("tend", filled.name + "x", status=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tend_ends_by_a_signal(filled, number):
    command = [sys.executable, "-m", "engine.cli", "tend", filled.name, "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as tender:
        assert json.loads(tender.stdout.readline())["rounds"] == 1
        tender.send_signal(number)
        assert tender.wait(20) == 0
    assert filled.recover() == 0 and filled.stats()["arena"]["workers"] == 1


def test_balloon_has_nothing_to_follow(filled, monkeypatch):
    monkeypatch.setattr(cli, "read_pressure", lambda: None)
    monkeypatch.setattr(cli, "read_cgroup", lambda: None)
    assert "nothing of memory pressure" in tmem("balloon", filled.name, "--count", 1, status=1)


def test_create_for_people(arena_name):
    assert f"{arena_name}: created" in tmem("create", arena_name, "--capacity", 8 << 20)


def test_create_twice_is_a_problem(eng):
    assert "Error: " in tmem("create", eng.name, status=1)


@pytest.mark.parametrize("wrong", [
    ("--capacity", "much"), ("--page-size", "1000"), ("--buckets", "3"), ("--max-workers", "0"),
    ("--mode", "abc"), ("--mode", "1777"), ("--nonsense",),
])
def test_create_with_a_wrong_argument_is_usage(arena_name, wrong):
    tmem("create", arena_name, *wrong, status=2)
    assert not os.path.exists(f"/dev/shm/{arena_name}")


def test_ls_lists_arenas_and_nothing_else(eng, tmp_path, monkeypatch):
    rows = {row["name"]: row for row in tmem_json("ls")}
    assert rows[eng.name]["capacity"] == eng.capacity and rows[eng.name]["bytes_used"] == 0
    eng.new_pool("p").put((1, 0, 0), 0, bytes(range(256)) * 2)
    arena = eng.stats()["arena"]
    used = {row["name"]: row for row in tmem_json("ls")}[eng.name]["bytes_used"]
    assert arena["bytes_evictable"] + arena["bytes_overhead"] <= used < arena["bytes_in_segments"]
    assert rows[eng.name]["mode"] == "0600" and rows[eng.name]["bytes_backed"] > 0
    assert eng.name in tmem("ls")
    (tmp_path / "other").write_bytes(b"not an arena")
    (tmp_path / "short").write_bytes(engine.ARENA_MAGIC[:4])
    (tmp_path / "mine").write_bytes(engine.ARENA_MAGIC + bytes(100))
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(cli, "SHM_DIR", tmp_path)
    assert [(row["name"], row["capacity"]) for row in tmem_json("ls")] == [("mine", None)]
    assert "mine" in tmem("ls")


def test_ls_takes_no_worker_slot(eng):
    before = eng.stats()["arena"]["workers"]
    tmem("ls")
    assert eng.stats()["arena"]["workers"] == before


def test_stat_tells_what_the_engine_tells(filled):
    told = tmem_json("stat", filled.name)
    assert told["pools"] == filled.stats()["pools"]
    assert told["pools"]["thumbs"]["puts_ok"] == 3 and told["pools"]["thumbs"]["pages"] == 3
    text = tmem("stat", filled.name)
    assert "thumbs" in text and "50.0 %" in text


def test_top_once(filled):
    frame = tmem_json("top", filled.name, "--once", "--interval", "0.05")
    assert frame["seconds"] >= 0.05
    assert frame["pools"]["thumbs"]["pages"] == 3 and frame["pools"]["thumbs"]["puts_per_s"] == 0
    assert "thumbs" in tmem("top", filled.name, "--once", "--interval", "0.05")


def test_top_counts_what_happens_while_it_looks(filled):
    pool, stop = filled.pool("thumbs"), threading.Event()

    def busy():
        while not stop.is_set():
            pool.put((9, 9, 9), 0, b"y")
            pool.get((9, 9, 9), 0)
            time.sleep(0.001)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        frame = tmem_json("top", filled.name, "--once", "--interval", "0.2")
    finally:
        stop.set()
        thread.join()
    assert frame["pools"]["thumbs"]["puts_per_s"] > 0 and frame["total"]["gets_per_s"] > 0
    assert frame["pools"]["thumbs"]["hit_rate"] == 1


def look(pools, at):
    """A look at an arena with these pools, so many seconds on."""
    zero = dict.fromkeys(
        ("puts_ok", "puts_refused", "gets_hit", "gets_miss", "flushes", "evicted", "pages", "bytes_used", "recoveries"),
        0,
    )
    return {
        "time": at, "pools": {name: zero | counts for name, counts in pools.items()}, "total": zero, "arena": {},
        "facts": {}, "clients": [], "workers": [],
    }


def test_rates_of_a_pool_that_came_or_was_made_anew():
    before = look({"anew": {"puts_ok": 50}}, 1.0)
    after = look({"anew": {"puts_ok": 5}, "came": {"puts_ok": 10}}, 3.0)
    rates = looks.rates(before, after)["pools"]
    assert rates["came"]["puts_per_s"] == 5 and rates["anew"]["puts_per_s"] == 0


def test_how_long_a_page_lasts():
    found = looks.rates(look({"p": {}}, 0.0), look({"p": {"evicted": 20, "pages": 50}, "q": {"pages": 5}}, 2.0))
    assert found["pools"]["p"]["lasts_s"] == 5 and found["pools"]["q"]["lasts_s"] is None


def test_check_of_a_sound_arena(filled):
    answer = tmem_json("check", filled.name)
    assert answer["ok"] is True and answer["problems"] == [] and answer["lost"] == []
    assert f"{filled.name}: ok" in tmem("check", filled.name)


class Sick:
    """An engine whose check() answers what it is given."""

    def __init__(self, **report):
        self.report = engine.Report(**report)
        self.asked = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def check(self, repair=False, frozen=False):
        """Somebody waits, so that it is a gentle one unless it must not be."""
        self.asked.append({"repair": repair, "frozen": frozen})
        self.report.gentle = not (repair or frozen)
        return self.report


@pytest.fixture
def sick(monkeypatch):
    """Makes every attach find an engine whose check() answers the given report."""
    def attach(**report):
        eng = Sick(**report)
        monkeypatch.setattr(engine, "attach", lambda name, owner: eng)
        return eng
    return attach


BAD = engine.Problem("chunk-leaked", "segment 3", "chunk 17 belongs to nobody")


def test_check_prints_each_problem_and_fails(sick):
    eng = sick(problems=[BAD], counts={"pools": 2})
    text = tmem("check", "a", status=1)
    assert "chunk-leaked  segment 3: chunk 17 belongs to nobody" in text and "a: 1 problems (2 pools)" in text
    answer = tmem_json("check", "a", status=1)
    assert answer["problems"] == [{"id": BAD.id, "where": BAD.where, "what": BAD.what}] and answer["ok"] is False
    gentle_first = [{"repair": False, "frozen": False}, {"repair": False, "frozen": True}]
    assert eng.asked == gentle_first * 2 and answer["gentle"] is False


def test_check_repair_tells_what_was_mended_and_what_was_lost(sick):
    eng = sick(repaired=[BAD], lost=[("thumbs", (1, 2, 3), 7), ("thumbs", (1, 2, 3), None), ("thumbs", None, None)])
    text = tmem("check", "a", "--repair", status=1)
    assert eng.asked == [{"repair": True, "frozen": False}]
    assert BAD.what in text and "1 problems, 0 left" in text
    assert "pool thumbs: object (1, 2, 3), page 7" in text and "an object, pages that nobody can name" in text
    answer = tmem_json("check", "a", "--repair", status=1)
    assert answer["ok"] is True and len(answer["repaired"]) == 1 and answer["lost"][0] == ["thumbs", [1, 2, 3], 7]


def test_check_holds_nobody_up_unless_asked_to(sick):
    eng = sick(counts={"pools": 2})
    assert (
        tmem("check", "a") == "a: ok (2 pools; while others worked, see --frozen)\n"
        and tmem_json("check", "a")["gentle"] is True
    )
    assert (
        tmem("check", "a", "--frozen") == "a: ok (2 pools)\n" and tmem_json("check", "a", "--frozen")["gentle"] is False
    )
    assert eng.asked == [{"repair": False, "frozen": frozen} for frozen in (False, False, True, True)]


def test_check_repair_of_a_sound_arena_does_nothing(filled):
    assert tmem_json("check", filled.name, "--repair")["repaired"] == []
    assert filled.pool("thumbs").get((1, 2, 3), 2) == b"x" * 100


def test_rm_removes_everything(arena_name):
    engine.create(arena_name, capacity="8MiB").close()
    tmem("rm", arena_name)
    assert not [file for file in os.listdir("/dev/shm") if arena_name in file]


@pytest.mark.parametrize("command", ["stat", "top", "check", "rm"])
def test_an_arena_that_is_not_there_is_one_line(arena_name, command):
    output = tmem(command, arena_name, status=1)
    assert output.startswith("Error: ") and output.count("\n") == 1 and arena_name in output


@pytest.mark.parametrize("command", ["create", "stat", "top", "check", "rm"])
@pytest.mark.parametrize("name", ["a/b", ".hidden"])
def test_an_impossible_name_is_usage(command, name):
    assert "name" in tmem(command, name, status=2)


def test_help_and_version():
    text = tmem("--help")
    assert all(command in text for command in ("create", "ls", "stat", "top", "check", "rm"))
    assert metadata.version("tmem") in tmem("--version")
    tmem("no-such-command", status=2)


class Entry:
    """An entry point of another package."""

    def __init__(self, name, load):
        self.name, self.load = name, load


class Entries(list):
    names = property(lambda self: {entry.name for entry in self})


@pytest.fixture
def entries(monkeypatch):
    """Replaces the installed entry points; to be filled by the test."""
    present = Entries()
    monkeypatch.setattr(metadata, "entry_points", lambda group, name=None: Entries(
        entry for entry in present if name in (None, entry.name)))
    return present


def test_a_command_of_another_package(entries):
    entries.append(Entry("hello", lambda: cli.click.Command("hello", callback=lambda: cli.click.echo("hi"))))
    assert tmem("hello") == "hi\n"


def test_a_broken_command_says_so_and_breaks_nothing_else(entries):
    def absent():
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")

    def broken():
        raise RuntimeError("half written")

    entries += [Entry("stress", absent), Entry("bench", broken), Entry("serve-metrics", absent)]
    text = tmem("stress", "--seconds", "3", status=2)
    assert "needs nowhere" in text and "pip install 'tmem[stress]'" in text
    assert "half written" in tmem("bench", status=2)
    assert "pip install 'tmem[metrics]'" in tmem("serve-metrics", "shop", status=2)
    assert "not available" in tmem("--help")
    tmem("ls")


def test_other_packages_are_not_imported_unasked(entries):
    entries.append(Entry("stress", lambda: pytest.fail("imported")))
    tmem("ls")


def test_installed_as_a_program(arena_name):
    def run(*args):
        return subprocess.run([sys.executable, "-m", "engine.cli", *args], capture_output=True, text=True, timeout=60)

    made = run("create", arena_name, "--capacity", "8MiB", "--json")
    assert made.returncode == 0 and json.loads(made.stdout)["name"] == arena_name
    again = run("create", arena_name)
    assert again.returncode == 1 and again.stdout == "" and again.stderr.startswith("Error: ")
    assert run("check", arena_name).returncode == 0
    assert run("check").returncode == 2
    assert run("rm", arena_name).returncode == 0
    assert run("stat", arena_name).returncode == 1


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; import engine.cli.commands"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode == 2 and "pip install 'tmem[cli]'" in told.stderr and "Traceback" not in told.stderr


PLAIN = [["ls"], ["stat", "NAME"], ["top", "NAME", "--once", "--interval", "0.01"], ["check", "NAME"],
         ["tend", "NAME", "--once"], ["health", "NAME"]]


def test_a_name_that_the_terminal_cannot_write(eng, tmp_path):
    """Every command, in one interpreter that writes ASCII."""
    eng.new_pool("na\u00efve \u65e5")
    script = tmp_path / "all.py"
    script.write_text(
        "import sys\nfrom engine.cli import main\n"
        f"for command in {PLAIN}:\n    main([sys.argv[1] if word == 'NAME' else word for word in command],"
        " standalone_mode=False)\n"
    )
    for coding in ("", "ascii"):
        env = child_env(LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING=coding, PYTHONCOERCECLOCALE="0", PYTHONPATH=ROOT)
        done = subprocess.run([sys.executable, script, eng.name], env=env, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.isascii() and done.stdout.count(b"na\\xefve") == 2


def test_what_is_not_there_is_answered_with_what_is(eng):
    assert "no command 'mk'; there are" in tmem("mk", status=2) and "create" in tmem("mk", status=2)
    for command in ("stat", "top", "check", "rm", "tend", "health"):
        told = tmem(command, eng.name + "x", status=1)
        assert f"no arena '{eng.name}x'; there " in told and repr(eng.name) in told or "more" in told
    assert "fish" in tmem("completion", "tcsh", status=2)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell):
    assert "_TMEM_COMPLETE" in tmem("completion", shell) and "tmem" in tmem("completion", shell)


def test_arenas_are_completed(eng):
    def completed(words):
        env = child_env(_TMEM_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
        code = "from engine.cli import main; main(prog_name='tmem')"
        return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True).stdout

    assert f"plain,{eng.name}" in completed(f"tmem stat {eng.name[:-1]}")
    assert "plain,resize" in completed("tmem res")


def test_rm_tells_what_it_has_removed(make_arena):
    names = [make_arena().name, make_arena().name]
    assert tmem_json("rm", *names) == {"removed": names}


def test_names_of_pools_do_nothing_to_a_terminal(eng):
    names = {"[red]x[/red]": "[red]x[/red]", "a[/b]": "a[/b]", "\x1b[31mred": "\\x1b[31mred", "n\nl": "n\\nl",
             "a\u202eb": "a\\u202eb", "sp\u00e4\u00df": "sp\u00e4\u00df", "\x9b2J": "\\x9b2J"}
    for name in names:
        eng.new_pool(name, persistent=False)
    for command in ("stat",), ("top", "--once", "--interval", "0.01"):
        shown = tmem(command[0], eng.name, *command[1:])
        assert not [letter for letter in shown if not (letter.isprintable() or letter == "\n")]
        assert {line.split()[0] for line in shown.splitlines() if line.strip()} >= set(names.values())
    assert set(tmem_json("stat", eng.name)["pools"]) == set(names)


@pytest.mark.parametrize("command", [
    ("health", "--timeout"), ("top", "--once", "--interval"), ("web", "--port", "0", "--interval"),
    ("tend", "--once", "--seconds"), ("balloon", "--count", "1", "--interval")])
@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "-1"])
def test_a_time_is_a_number_of_seconds(eng, command, seconds):
    assert command[-1] in tmem(command[0], eng.name, *command[1:], seconds, status=2)


@pytest.mark.parametrize("host", ["", "\u00e4" * 70])
def test_a_server_listens_where_it_is_told(eng, host):
    assert "--host" in tmem("web", eng.name, "--port", "0", "--host", host, status=2)
