"""Owns how far pages come home: which, when, and that nothing is lost or old by it."""
import random
import threading

import pytest

from tests.contract.fars import PAGE, assert_sound, content, fill, fresh_dict_tier, get, stats

PAGES = 1100


@pytest.fixture
def kind(monkeypatch):
    return fresh_dict_tier(monkeypatch)


def far_pool(make_arena, **how):
    """A pool of which about a third of PAGES pages is far, and which has memory to spare."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", max_capacity="6MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:", **how)
    fill(pool, PAGES)
    eng.resize("4MiB")
    return pool


@pytest.fixture
def pool(make_arena, kind):
    return far_pool(make_arena)


def handle(n):
    return (n // 16, 0, 0), n % 16


def away(pool):
    """Numbers of pages that are far: of descriptors that hold a token of DictTier."""
    return [n for n in range(PAGES) if is_away(pool, n)]


def is_away(pool, n):
    found = pool.descriptor(*handle(n))
    return found is not None and found[0] == 1


# --- which, and when ------------------------------------------------------------------------------


def test_a_page_comes_home_when_it_is_got_again(pool, kind):
    n = away(pool)[0]
    before = stats(pool)
    assert get(pool, n) == content(n) and is_away(pool, n)
    assert get(pool, n) == content(n) and not is_away(pool, n)
    kind.asked.clear()
    assert get(pool, n) == content(n) and not kind.asked
    after = stats(pool)
    assert [after[name] - before[name] for name in ("localified", "far_pages", "far_hits", "pages", "objects")] == [
        1, -1, 2, 0, 0]
    assert after["bytes_stored"] - before["bytes_stored"] == len(content(n))
    assert_sound(pool.engine)


def test_all_verbs_that_get_bring_pages_home(pool):
    room = bytearray(PAGE)
    far = away(pool)
    calls = [
        lambda n: pool.get(*handle(n)),
        lambda n: pool.get_into(*handle(n), room),
        lambda n: pool.get_many([handle(n)]),
        lambda n: pool.object(handle(n)[0]).get(n % 16),
        lambda n: pool.get_range(*handle(n), 1),
    ]
    for n, call in zip(far[:: len(far) // len(calls)], calls, strict=False):
        call(n)
        call(n)
        assert not is_away(pool, n)
    assert_sound(pool.engine)


def test_what_leaves_by_being_got_does_not_come_home(pool):
    n = away(pool)[0]
    assert get(pool, n) == get(pool, n, free=True) == content(n)
    assert get(pool, n) is None and stats(pool)["localified"] == 0


def test_a_pool_may_let_its_pages_stay(make_arena, kind):
    pool = far_pool(make_arena, localify=False)
    n = away(pool)[0]
    for _ in range(5):
        assert get(pool, n) == content(n)
    assert is_away(pool, n) and stats(pool)["localified"] == 0


def test_localify_is_a_bool(eng):
    with pytest.raises(TypeError, match="localify"):
        eng.new_pool("p", localify=1)


def test_a_scan_brings_nothing_home(make_arena, kind):
    """However often: between two gets of a page more is got than is local. What is hot stays."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=1)
    pool = eng.new_pool("p", far="dict:")
    for n in range(2600):
        assert pool.put(*handle(n), content(n))
        if n % 32 == 31:
            eng.spill()
    while eng.spill():
        pass
    local = [n for n in range(2600) if not is_away(pool, n)]
    far = [n for n in range(2600) if is_away(pool, n)]
    assert len(far) > 1500
    for _ in range(3):
        for n in far:
            assert get(pool, n) in (None, content(n))
        eng.spill()
    assert stats(pool)["localified"] < len(far) // 100
    assert not any(is_away(pool, n) for n in local)


def test_the_hot_part_of_what_is_far_comes_home(make_arena, kind):
    """With a spiller that makes place for it."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=1)
    pool = eng.new_pool("p", far="dict:")
    fill(pool, PAGES)
    hot = away(pool)[:200]
    for _ in range(12):
        for i, n in enumerate(hot):
            assert get(pool, n) == content(n)
            if i % 16 == 15:
                eng.spill()
    assert sum(is_away(pool, n) for n in hot) < 20
    assert_sound(eng)


def test_all_comes_home_into_an_arena_that_has_become_empty(make_arena, kind):
    """What is remembered is as much as there is memory for, and not as is local by chance."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False)
    pool = eng.new_pool("p", far="dict:")
    fill(pool, PAGES)
    far = away(pool)
    for n in set(range(PAGES)) - set(far):
        assert pool.flush_page(*handle(n))
    eng.tend()
    for _ in range(2):
        for n in far:
            assert get(pool, n) == content(n)
    assert len(away(pool)) < len(far) // 10
    assert_sound(eng)


def test_no_page_goes_for_one_that_comes_home(make_arena, kind):
    """In a full arena, without a spiller."""
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:")
    fill(pool, PAGES)
    for n in range(5000, 5200):
        assert pool.put((n, 0, 0), 0, content(n))
    before = stats(pool)
    for n in range(PAGES):
        get(pool, n)
        get(pool, n)
    after = stats(pool)
    assert after["evicted"] == before["evicted"] and after["localified"] == 0 and after["far_hits"] > 0


def test_a_cap_holds(make_arena, kind):
    eng = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:", cap=400)
    for n in range(400):
        assert pool.put(*handle(n), content(n))
    other = eng.new_pool("other", far="dict:")
    for n in range(PAGES):
        assert other.put(*handle(n), content(n))
        if n % 16 == 15:
            eng.spill()
    assert stats(pool)["far_pages"] > 0
    other.destroy()
    for n in [*range(400), *range(400)] * 2:
        get(pool, n)
    for n in range(2000, 2400):
        assert pool.put(*handle(n), content(n))
    for n in [*range(400), *range(400)] * 2:
        get(pool, n)
    assert stats(pool)["pages"] - stats(pool)["far_pages"] <= 400
    assert_sound(eng)


# --- names ----------------------------------------------------------------------------------------


def test_2_a_page_that_leaves_again_has_another_name(pool, kind):
    """Out and home, many times: DictTier would say so, of names that it has had at any time. And
    what is dropped late is not what is needed."""
    for _turn in range(6):
        for n in away(pool):
            get(pool, n)
            get(pool, n)
        fill(pool, 320, start=20000)
        pool.engine.tend()
        assert all(get(pool, n) in (None, content(n)) for n in range(PAGES))
    assert stats(pool)["localified"] > 100 and stats(pool)["far_misses_gone"] == 0
    assert_sound(pool.engine)


def test_the_tier_hears_of_what_came_home(pool, kind):
    for n in away(pool)[:200]:
        get(pool, n)
        get(pool, n)
    assert stats(pool)["localified"] > 50
    for _ in range(10):
        pool.engine.tend()
    assert len(kind.kept) == stats(pool)["far_pages"]


def test_a_late_delete_of_a_name_that_was_not_used_harms_nothing(make_arena, kind):
    """A page is copied, and hit: it stays, and its name is dropped, but late: when the page has
    left under another."""
    pool = make_arena(page_size=PAGE, capacity="3MiB", huge_pages=False).new_pool("p", far="dict:")
    for n in range(700):
        assert pool.put(*handle(n), content(n))
    there = [n for n in range(700) if get(pool, n) is not None]
    late = []

    def meddle(verb, names):
        if verb == "put":
            kind.before = late_deletes
            for n in there:
                assert get(pool, n) == content(n)

    def late_deletes(verb, names):
        if verb == "delete":
            late.extend(names)

    kind.before = meddle
    for _ in range(20):
        pool.engine.spill()
    assert late
    kind.before = None
    fill(pool, 640, start=20000)
    for name in late:
        kind.kept.pop(name, None)
    assert all(get(pool, n) in (None, content(n)) for n in there)
    assert stats(pool)["far_misses_gone"] == 0


def test_a_version_is_what_it_was_when_a_value_comes_home(make_arena, kind):
    eng = make_arena(page_size=PAGE, capacity="3MiB", max_capacity="6MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:")
    for n in range(1000):
        assert pool.put_object((n, 0, 0), content(n), key=b"%d" % n, word=n)
        if n % 32 == 31:
            eng.spill()
    eng.resize("4MiB")
    far = [n for n in range(1000) if pool.descriptor((n, 0, 0), 0)[0] == 1][:20]
    for n in far:
        version = pool.get_object((n, 0, 0), info=True)[1].version
        for _ in range(2):
            found, info = pool.get_object((n, 0, 0), info=True)
            assert found == content(n) and (info.version, info.word, info.key) == (version, n, b"%d" % n)
        assert pool.descriptor((n, 0, 0), 0)[0] != 1
        assert pool.put_object((n, 0, 0), b"new", if_version=version)
    assert_sound(eng)


# --- what comes between ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["over", "flush", "flush and put", "destroy", "clear", "home"])
@pytest.mark.parametrize("batch", [False, True])
def test_4_aba_between_the_tier_and_the_second_look(pool, kind, change, batch):
    far = away(pool)[:20]
    for n in far:
        get(pool, n)

    def meddle(verb, names):
        if verb != "get":
            return
        kind.before = None
        if change == "destroy":
            pool.destroy()
        if change == "clear":
            pool.clear()
        for n in far if change not in ("destroy", "clear") else ():
            if change == "home":
                assert get(pool, n) == content(n) and not is_away(pool, n)
                continue
            if "flush" in change:
                assert pool.flush_page(*handle(n))
            if change != "flush":
                assert pool.put(*handle(n), content(n, 1))
    kind.before = meddle
    version = change in ("over", "flush and put")
    wanted = [content(n, version) if change not in ("flush", "clear") else None for n in far]
    if change == "destroy":
        with pytest.raises(Exception, match="destroyed"):
            pool.get_many([handle(n) for n in far]) if batch else get(pool, far[0])
    elif batch:
        assert pool.get_many([handle(n) for n in far]) == wanted
    else:
        assert get(pool, far[0]) == wanted[0]
    assert_sound(pool.engine)


def test_a_page_that_came_home_and_left_again_while_the_tier_was_asked(make_arena, kind):
    pool = far_pool(make_arena, policy="fifo")
    far = away(pool)[:20]
    for n in far:
        get(pool, n)

    def meddle(verb, names):
        kind.before = None
        for n in far:
            assert get(pool, n) == content(n)
        fill(pool, 1400, start=20000)
        pool.engine.tend()
        assert any(is_away(pool, n) for n in far)
    kind.before = meddle
    assert [page for page in pool.get_many([handle(n) for n in far]) if page is not None] == [
        content(n) for n in far if get(pool, n) is not None]
    assert stats(pool)["far_misses_gone"] == 0
    assert_sound(pool.engine)


@pytest.mark.parametrize("pam", ["zstd", "lz4"])
def test_compressed_values(make_arena, kind, pam):
    pytest.importorskip({"zstd": "zstandard", "lz4": "lz4"}[pam])
    eng = make_arena(page_size=PAGE, capacity="3MiB", max_capacity="8MiB", huge_pages=False, shards=4)
    pool = eng.new_pool("p", far="dict:", pam=pam, page_size="256KiB")
    rnd = random.Random(2)
    values = {n: rnd.randbytes(rnd.choice((700, 2000, 90000))) + b"x" * 5000 for n in range(400)}
    for n, value in values.items():
        assert pool.put_object((n, 0, 0), value, key=b"%d" % n, word=n)
        eng.spill()
    assert stats(pool)["far_pages"] > 50
    eng.resize("8MiB")
    for _ in range(3):
        for n, value in values.items():
            found = pool.get_object((n, 0, 0), info=True)
            assert found is None or (found[0], found[1].word) == (value, n)
            found = pool.get_object((n, 0, 0), info=True)
    assert stats(pool)["localified"] > 20
    assert_sound(eng)


def test_the_words_of_a_dict_with_versions(pool):
    """All verbs, against a model."""
    rnd = random.Random(7)
    versions = dict.fromkeys(range(PAGES), 0)
    for turn in range(1, 30):
        for _ in range(150):
            n = rnd.randrange(PAGES) if rnd.random() < 0.5 else rnd.randrange(150)
            act = rnd.random()
            if act < 0.15:
                assert pool.put(*handle(n), content(n, turn))
                versions[n] = turn
            elif act < 0.2:
                pool.flush_page(*handle(n))
                versions.pop(n, None)
            elif act < 0.25:
                wanted = [rnd.randrange(PAGES) for _ in range(40)]
                for m, page in zip(wanted, pool.get_many([handle(m) for m in wanted]), strict=True):
                    assert page is None or page == content(m, versions[m])
            elif act < 0.27:
                found = get(pool, n, free=True)
                assert found is None or found == content(n, versions[n])
                versions.pop(n, None)
            elif act < 0.3:
                m = n // 16 * 16
                found = pool.get_range(*handle(m), 4)
                assert found is None or found == b"".join(content(m + i, versions[m + i]) for i in range(4))
            else:
                found = get(pool, n)
                assert found is None or found == content(n, versions[n])
        pool.engine.spill()
    assert stats(pool)["localified"] > 50
    assert_sound(pool.engine)


def test_threads(pool):
    """Several get, put over, flush and spill at a time."""
    wrong = []
    locks = [threading.Lock() for _ in range(16)]
    versions = dict.fromkeys(range(PAGES), 0)

    def work(seed):
        rnd = random.Random(seed)
        try:
            for turn in range(600):
                n = rnd.randrange(300)
                with locks[n % 16]:
                    if rnd.random() < 0.2:
                        assert pool.put(*handle(n), content(n, seed * 1000 + turn))
                        versions[n] = seed * 1000 + turn
                    else:
                        assert get(pool, n) in (None, content(n, versions[n]))
                if turn % 50 == 0:
                    pool.engine.spill()
                    pool.get_many([handle(n) for n in range(300, 400)])
        except BaseException as error:
            wrong.append(error)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_sound(pool.engine)
