"""Owns the exhaustive check of the lock's protocol: lock.pml by `spin`, in every order of steps and
with deaths anywhere.

The model is held against itself by mistakes that must be found, and against the code by the order
of the steps it was written from. README.md says what holds, within which bounds, and what is left
out.
"""
import re
from pathlib import Path

import pytest

from tests.models.searching import FAIR, LONG, SAFETY, SMALL, chosen, needs_spin, search
from tests.support import ROOT

MODEL = Path(__file__).with_name("lock.pml")
# name: (#defines, how to search)
HOLDS = {
    "no death, no slice": ({"DEATHS": 0, "ROUNDS": 2, "SLICES": 0}, SAFETY),
    "deaths": ({"DEATHS": 2, "ROLLS_BACK": 1}, SAFETY),
    "newcomer": ({"DEATHS": 1, "RESTARTS": 1}, SMALL),
    "newcomers that die": ({"WORKERS": 2, "DEATHS": 2, "RESTARTS": 2}, SAFETY),
    "slices end at any moment": ({"DEATHS": 2, "ANYTIME": 1}, SAFETY),
    "reader": ({"READER": 1, "WORKERS": 2, "ROUNDS": 2, "DEATHS": 2, "ROLLS_BACK": 1}, SAFETY),
    "the deaths of others cost no slice":
        ({"DEATHS": 2, "MAY_DIE": "(!HOLDER && !POSTER && !RECEIVER && !RESCUER)", "SLICES": 0}, SAFETY),
    "progress": ({"DEATHS": 1, "ANYTIME": 1}, FAIR),
    "progress with newcomers": ({"WORKERS": 2, "DEATHS": 2, "RESTARTS": 2, "ANYTIME": 1}, FAIR),
}
# Without it, these are searched in smaller bounds.
SMALLER = {
    "no death, no slice": {"ROUNDS": 1},
    "deaths": {"DEATHS": 1},
    "newcomer": {"WORKERS": 2},
    "newcomers that die": {"RESTARTS": 1},
    "slices end at any moment": {"WORKERS": 2},
    "reader": {"ROUNDS": 1},
    "progress": {"WORKERS": 2, "DEATHS": 2},
    "progress with newcomers": {"DEATHS": 1, "RESTARTS": 1},
}
# Minutes in all: only with MODELS_LONG=1 in the environment.
HOLDS_LONG = {
    "two rounds": ({"WORKERS": 2, "DEATHS": 2, "ROUNDS": 2, "ROLLS_BACK": 1}, SAFETY),
    "two workers, three deaths": ({"WORKERS": 2, "DEATHS": 3, "RESTARTS": 2}, SMALL),
    "reader, newcomer": ({"READER": 1, "WORKERS": 2, "DEATHS": 2, "RESTARTS": 1, "ROLLS_BACK": 1}, SAFETY),
}
SLICE = "forced<="
BROKEN = r"a==b.*version"
# name: (#defines, how to search, what spin says)
MISTAKES = {
    "held is recorded after the lock is taken": ({"M_LATE_HELD": 1}, SAFETY, r"assertion violated"),
    "a post is sometimes left out": ({"M_LOSES_POST": 1, "DEATHS": 0}, SAFETY, SLICE),
    "any other lock clears waited_on": ({"M_FORGETS": 1, "DEATHS": 0}, SAFETY, SLICE),
    "the rescuer releases before it rolls back": ({"M_RELEASE_FIRST": 1}, SAFETY, BROKEN),
    "the rescuer leaves the sequence odd": ({"M_RESCUER_LEAVES_SEQ": 1}, SAFETY, r"seq&1"),
    "rescuers that do not take the dead worker's own lock": ({"M_NO_ADOPTION": 1}, SAFETY, r"settling|a==b"),
    "only locks of the last generation are released":
        ({"M_EXACT": 1, "WORKERS": 2, "DEATHS": 2, "RESTARTS": 2}, SAFETY, r"!=slot|forced<="),
    "an own lock is adopted from a living rescuer": ({"M_NEVER_ASKS_AGAIN": 1, "DEATHS": 2}, SAFETY, r"settling|a==b"),
    "no second look at the word of a slot whose worker may have closed":
        ({"M_ONE_LOOK": 1, "WORKERS": 2, "DEATHS": 2, "RESTARTS": 2}, SAFETY, r"inside==|violated 0"),
    "nobody asks whether the holder lives":
        ({"M_NEVER_ASKS": 1, "WORKERS": 2, "ANYTIME": 1}, FAIR, r"non-progress cycle"),
    "the journal's length before its entry": ({"M_LATE_JOURNAL": 1}, SAFETY, BROKEN),
    "a word before its journal entry": ({"M_WORD_BEFORE_JOURNAL": 1}, SAFETY, BROKEN),
    "the sequence odd after the first store": ({"M_LATE_SEQ": 1, "READER": 1}, SAFETY, r"x==y"),
    "the reader does not ask again": ({"M_READER_TRUSTS": 1, "READER": 1, "DEATHS": 0}, SAFETY, r"x==y"),
}
# What is allowed to cost a slice does cost one: the bound of `HOLDS` is not loose.
COSTS = {
    "the holder dies while another sleeps": {"MAY_DIE": "HOLDER", "SLICES": 0},
    "who gave the lock back dies before the post": {"MAY_DIE": "POSTER", "SLICES": 0},
    "the receiver dies": {"MAY_DIE": "RECEIVER", "SLICES": 0},
    "the receiver has no use for the lock any more": {"DEATHS": 0, "GIVES_UP": 1},
}
# file: (where to begin, the steps in their order): lock.pml was written from these.
CODE = {
    "shm/lock.pxd": [
        ("inline u64 new_owner", ["w.id | OWNER_WAITS() if w.waited_on == offset else w.id"]),
        (
            "inline int lock_try",
            [
                "w.slot.held[w.held] = offset",
                "cas(&lock.owner, 0, new_owner(w, offset))",
                "w.slot.held[w.held] = 0",
                "if w.waited_on == offset:",
                "w.waited_on = 0",
                "w.held += 1",
                "set(&lock.seq, (lock.seq + 1) | 1)",
            ],
        ),
        (
            "inline void unlock",
            [
                "set_release(&lock.seq, lock.seq + 1)",
                "old = swap(&lock.owner, 0)",
                "w.slot.held[w.held] = 0",
                "if unlikely(old != w.id)",
                "post(w, lock)",
            ],
        ),
    ],
    "shm/waiting.py": [
        (
            "def consider(w)",
            [
                "owner = load_acquire(cython.address(lock.owner))",
                "idx == w.slot_idx",
                "if not byte_held(w, idx)",
                "rescue(w)",
                "if load(cython.address(lock.owner)) != owner",
                "cas(cython.address(lock.owner), owner, owner | OWNER_WAITS())",
                "w.waited_on = offset",
            ],
        )
    ],
    "shm/recovery.py": [
        (
            "def adopt(",
            [
                "w.slot.held[w.held] = offset",
                "owner = load(cython.address(lock.owner))",
                "may_adopt(w, idx, owner)",
                "cas(cython.address(lock.owner), owner",
                "w.slot.held[w.held] = 0",
                "w.held += 1",
            ],
        ),
        ("def may_adopt(", ["owner == 0", "not byte_held(w, idx)", "is_gone(w, owner)", "other.journal_len"]),
        (
            "def _release(",
            [
                "owner & 0xFFFF != idx + 1",
                "if lock.seq & 1",
                "lock.seq + 1",
                "while not cas(cython.address(lock.owner), owner, 0)",
                "if owner & OWNER_WAITS()",
                "post(w, lock)",
            ],
        ),
        (
            "def settle_slot(",
            [
                "if settle(w, dead, idx, journal)",
                "_release(w, cython.cast",
                "dead.held[i] = 0",
                "_release(w, cython.address(slot_at(w, i).own), idx)",
            ],
        ),
        ("def _bury(", ["cython.cast(Inherit, w.inherit)(w, dead)", "drain_all(w, dead)", "SLOT_FREE"]),
        (
            "def _is_dead(",
            ["load_acquire(cython.address(slot.gen))", "== SLOT_LIVE", "byte_held(w, idx)", "== SLOT_LIVE", "== gen"],
        ),
        (
            "def _settle_dead(",
            ["_is_dead(w, i)", "adopt(w, i)", "if _is_dead(w, i)", "settle_slot(w, i)", "give_back(w, i)"],
        ),
        (
            "def rescue(",
            [
                "_settle_dead(w)",
                "if n > 0 and lock_try",
                "_is_dead(w, i) or adopt(w, i)",
                "if _is_dead(w, i)",
                "settle_slot(w, i)",
                "_bury(w, i)",
                "give_back(w, i)",
            ],
        ),
    ],
    "engine/capacity/compact.py": [
        (
            "def take_over(",
            ["cython.address(w.slot.own)", "slot_at(w, idx).own", "is_open(w, idx)", "inherit(", "drain_all("],
        ),
    ],
    "engine/integrity/stop.py": [
        (
            "def _close_gate",
            [
                "gate_keeper(w)",
                "held[HELD_MAX - 1]",
                "cas(cython.address(w.depot.gate.owner), owner, w.id)",
                "fence_full()",
            ],
        ),
        ("def _take_all", ["slot.state", "cas(cython.address(slot.own.owner), 0, w.id)", "is_open(w, idx)"]),
    ],
    "shm/journal.pxd": [
        (
            "inline void store",
            ["w.journal[2 * n] =", "w.journal[2 * n + 1] = p[0]", "w.slot.journal_len = n + 1", "p[0] = value"],
        ),
        ("inline void commit", ["w.slot.journal_len = 0"]),
    ],
    "shm/journal.py": [("def settle(", ["while n > 0", "[0] = journal[2 * n + 1]", "dead.journal_len = 0"])],
    "shm/workers.py": [
        (
            "def take_slot",
            [
                "== SLOT_FREE and self.claim(idx)",
                "== SLOT_FREE",
                "live_in(idx)",
                "self.back_slot(i)",
                "cas(cython.address(w.depot.slots_high)",
                "== SLOT_FREE",
                "== SLOT_LIVE and not byte_held(w, idx)",
                "self.claim(idx) and self.take_from_the_dead(idx)",
            ],
        ),
        ("def claim(", ["byte_try(w, NEWCOMER_BYTE(idx))", "byte_try(w, idx)", "byte_release(w, NEWCOMER_BYTE(idx))"]),
        ("def disclaim(", [", idx)", "NEWCOMER_BYTE(idx))"]),
        ("def attach_slot", ["self.take_slot()", "self.w.slot_idx)", "NEWCOMER_BYTE(self.w.slot_idx)"]),
        ("def call_myself", ["slot.gen + 1", "w.id = slot.gen << 16"]),
        ("def live_in", ["self.call_myself(idx)", "disown(cython.address(self.w), idx)", "self.live(idx)"]),
        ("def live(", ["set_release(cython.address(slot.state), SLOT_LIVE)", "fence_full()"]),
        (
            "def take_from_the_dead",
            [
                "self.call_myself(idx)",
                "may_adopt(w, idx, owner)",
                "cas(cython.address(lock.owner), owner",
                "== SLOT_LIVE",
                "settle_slot(w, idx)",
                "self.live(idx)",
                "swap(cython.address(lock.owner), 0)",
            ],
        ),
        (
            "def close(",
            [
                "drain_all(w, w.slot)",
                "self.roots >> i & 1",
                "unlock(w, cython.address(w.slot.own))",
                "set_release(cython.address(w.slot.state), SLOT_FREE)",
                "byte_release(w, w.slot_idx)",
            ],
        ),
    ],
}


@needs_spin
@pytest.mark.parametrize("name", chosen(HOLDS, 4, "what holds of the lock"))
def test_it_holds(name, tmp_path):
    defines, how = HOLDS[name]
    states, error = search(tmp_path, MODEL, defines if LONG else defines | SMALLER.get(name, {}), how)
    print(f"{name}: {states} states")
    assert error is None


@needs_spin
@pytest.mark.skipif(not LONG, reason="minutes: make test-all")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", HOLDS_LONG)
def test_it_holds_in_larger_bounds(name, tmp_path):
    states, error = search(tmp_path, MODEL, *HOLDS_LONG[name], ("-O2",))
    print(f"{name}: {states} states")
    assert error is None


@needs_spin
@pytest.mark.parametrize("name", chosen(MISTAKES, 6, "mistakes of the lock"))
def test_a_mistake_is_found(name, tmp_path):
    defines, how, says = MISTAKES[name]
    states, error = search(tmp_path, MODEL, defines, how)
    print(f"{name}: {states} states, {error}")
    assert error is not None and re.search(says, error)


@needs_spin
@pytest.mark.parametrize("name", chosen(COSTS, 2, "costs"))
def test_a_slice_is_needed(name, tmp_path):
    states, error = search(tmp_path, MODEL, COSTS[name], SAFETY)
    print(f"{name}: {states} states, {error}")
    assert error is not None and SLICE in error


def out_of_order(text, begin, steps):
    """The first step that is not in the function that begins at `begin`, after the ones before it;
    None: all are."""
    at = text.find(begin)
    if at < 0:
        return begin
    body = re.split(r"\n(?=\S)|\n    def ", text[at:])[0]
    body = "\n".join(line.partition("#")[0] for line in body.splitlines())
    at = 0
    for step in steps:
        at = body.find(step, at)
        if at < 0:
            return step
        at += len(step)
    return None


@pytest.mark.parametrize("name", CODE)
def test_the_code_has_the_steps_of_the_model(name):
    text = (ROOT / name).read_text()
    wrong = [
        f"{begin}: {step}" for begin, steps in CODE[name] if (step := out_of_order(text, begin, steps)) is not None
    ]
    assert not wrong, "if the code is right, change lock.pml first, then the list here"


def test_the_search_for_steps_finds():
    text = "def f():\n    one\n    # three\n    two\n\ndef g():\n    three\n"
    assert out_of_order(text, "def f", ["one", "two"]) is None
    assert out_of_order(text, "def f", ["two", "one"]) == "one"
    assert out_of_order(text, "def f", ["one", "three"]) == "three"
    assert out_of_order(text, "def h", []) == "def h"
