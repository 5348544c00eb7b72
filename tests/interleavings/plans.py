"""Owns schedules: their text, which replays them, and which of them are played: all pairs, or
triples chosen by seed.

    A:put-over@p:34     worker A begins a put over a page of pool p and is stopped at its 34th kill
    point B:flush-page@p      worker B begins, and is watched until it answers or waits; with
    ~raise, ~use,
                        ~fork: what its handler does
    C&get@p             the same in a thread of C
    B~                  a signal to B, if it waits
    A+  A!              A goes on; A is killed

A schedule begins with the kind of arena. `play_lives` plays many on one arena, one after the other
(a life), since an arena is dearer than an interleaving; a fault is played again alone, on an arena
of its own, and the line that does so is printed. Calls stage.py.
"""
import random
import re
import time
from dataclasses import dataclass, field

from tests.interleavings.stage import HOT, KINDS, Stage
from tests.interleavings.verbs import VERBS

LIFE = 64               # interleavings on one arena
_MOVE = re.compile(r"([A-Z])(?:([:&])([a-z-]+)@(\w)(?::(\d+))?(?:~(\w+))?|([+!~]))")
# Verbs that have more kill points when somebody died or is in the way, or none that their own
# worker counts.
MORE = {"attach": 40, "recover": 60, "check": 20, "repair": 20, "fork": 40, "close": 20}
WAITERS = (
    "put-over",
    "put-page",
    "put-range",
    "put-many",
    "put-value",
    "incr",
    "get-exclusive",
    "flush-page",
    "flush-object",
    "destroy",
    "new-pool",
    "resize-down",
)


@dataclass(frozen=True)
class Move:
    what: str
    arguments: tuple


@dataclass(frozen=True)
class Schedule:
    kind: str
    text: str
    moves: tuple


def parse(text):
    kind, *words = text.split()
    if kind not in KINDS:
        raise ValueError(f"no kind of arena {kind!r}; there are: {', '.join(KINDS)}")
    moves = []
    for word in words:
        found = _MOVE.fullmatch(word)
        if not found or (found[3] and found[3] not in VERBS):
            raise ValueError(f"no such move: {word!r}")
        letter, how, verb, pool, point, handler, end = found.groups()
        if end:
            moves.append(Move({"+": "go_on", "!": "kill", "~": "signal"}[end], (letter,)))
        else:
            moves.append(Move("begin", (letter, verb, pool, int(point or 0), how == "&", handler or "")))
    return Schedule(kind, text, tuple(moves))


# --- which ----------------------------------------------------------------------------------------


def pools_of(verb):
    return HOT if VERBS[verb].pools else ("p",)


class Points:
    """How many kill points each verb has on each kind of arena: asked once, of an arena of its own,
    so that a seed means the same always."""

    def __init__(self, prefix):
        self.prefix, self.known = prefix, {}

    def of(self, kind, verb, pool):
        if kind not in self.known:
            with Stage(f"{self.prefix}points", kind) as stage:
                self.known[kind] = {
                    (verb, pool): stage.points_of(verb, pool) for verb in VERBS for pool in pools_of(verb)
                }
        return self.known[kind][verb, pool]


def every_pair(kind, points, step=1):
    """Every pair of verbs on pools of the same name, A stopped at every point, or every `step`-th,
    going on or killed."""
    for a in VERBS:
        for pool in pools_of(a):
            for b in VERBS:
                if not VERBS[a].pools and VERBS[b].pools and pool != "p":
                    continue
                for n in range(1, points.of(kind, a, pool) + 1, step):
                    for end in "+!":
                        yield f"{kind} A:{a}@{pool}:{n} B:{b}@{pool if VERBS[b].pools else 'p'} A{end}"


class Chooser:
    """Schedules by seed."""

    def __init__(self, rng, kind, points):
        self.rng, self.kind, self.points = rng, kind, points

    def verb(self, among=tuple(VERBS)):
        verb = self.rng.choice(among)
        return verb, self.rng.choice(pools_of(verb)) if self.rng.random() < 0.15 else self.hot if VERBS[
            verb
        ].pools else "p"

    def plain(self, letter, among=tuple(VERBS)):
        return "{}:{}@{}".format(letter, *self.verb(among))

    def stopped(self, letter, among=tuple(VERBS)):
        last = 0
        while not last:
            verb, pool = self.verb(among)
            last = self.points.of(self.kind, verb, pool) + MORE.get(verb, 0)
        return f"{letter}:{verb}@{pool}:{self.rng.randint(1, last)}"

    def end(self, letter):
        return letter + self.rng.choice("+!")

    def ends(self, letters):
        return [self.end(letter) for letter in self.rng.sample(letters, len(letters))]

    def choose(self):
        """A schedule of some shape."""
        self.hot = self.rng.choice(HOT)
        shape = self.rng.choice(SHAPES)
        return " ".join([self.kind, *shape(self)])


def _pair(c):
    return [c.stopped("A"), c.plain("B"), c.end("A")]


def _one_after_the_other(c):
    return [c.stopped("A"), c.plain("B"), c.plain("C"), *c.ends("A")]


def _two_stopped(c):
    return [c.stopped("A"), c.stopped("C"), c.plain("B"), *c.ends("AC")]


def _after_a_death(c):
    """X died in the middle of something and nobody has noticed; A is stopped; what X had is had all
    the same."""
    return [c.stopped("X"), "X!", c.stopped("A"), c.plain("B"), c.plain("C"), c.end("A")]


def _a_rescuer_stops(c):
    return [c.stopped("X"), "X!", c.stopped("A", ("recover", "attach", "check", "close", "put-over")),
            c.plain("B", ("attach", "recover", *WAITERS)), c.end("A")]


def _waiter_dies(c):
    """B waits for A, C takes over what B has or is stopped near it, B is killed, D comes; then the
    others end."""
    return [
        c.stopped("A"),
        c.plain("B", WAITERS),
        c.stopped("C"),
        "B!",
        c.plain("D", ("attach", "recover", "close", *WAITERS)),
        *c.ends("AC"),
    ]


def _handler(c):
    """A signal to B while it waits: its handler raises, uses the engine, or forks."""
    mode = c.rng.choice(("raise", "use", "fork"))
    again = ["B~"] if mode != "fork" and c.rng.random() < 0.5 else []
    return [c.stopped("A"), c.plain("B", WAITERS) + f"~{mode}", "B~", *again, c.end("A")]


def _threads(c):
    """Two threads of B, one of which waits for A, and a signal in the middle."""
    second = c.plain("B", WAITERS)
    return [
        c.stopped("A"),
        c.plain("B", WAITERS).replace(":", "&", 1),
        second + "~raise" if c.rng.random() < 0.5 else second.replace(":", "&", 1),
        "B~",
        c.end("A"),
    ]


def _fork_beside_a_wait(c):
    """A thread of B waits for A, and another forks."""
    return [c.stopped("A"), c.plain("B", WAITERS).replace(":", "&", 1), f"B&fork@{c.hot}", c.end("A")]


SHAPES = [_pair] * 4 + [
    _one_after_the_other,
    _two_stopped,
    _two_stopped,
    _after_a_death,
    _after_a_death,
    _a_rescuer_stops,
    _waiter_dies,
    _waiter_dies,
    _handler,
    _threads,
    _fork_beside_a_wait,
]


# --- playing --------------------------------------------------------------------------------------


@dataclass
class Total:
    """What many interleavings came to."""

    most: int = 1 << 30         # enough faults: then no more are played
    played: int = 0
    reached: int = 0
    waited: int = 0
    died: int = 0
    worst_ms: float = 0.0
    seconds: float = 0.0
    faults: list = field(default_factory=list)          # (what, the arguments of the command that play it again)

    def add(self, outcome):
        self.played += 1
        self.reached += outcome.reached
        self.waited += outcome.waited > 0
        self.died += outcome.died
        self.worst_ms = max(self.worst_ms, outcome.worst_ms)

    def told(self):
        return (
            f"{self.played} interleavings, {self.reached} stopped where they were to, {self.waited} "
            "with somebody who waited for one that was "
            f"stopped, {self.died} deaths; longest wait with nobody stopped {self.worst_ms:.0f} ms; "
            f"{len(self.faults)} faults; "
            f"{self.seconds:.1f} s, {self.played / max(self.seconds, 0.001):.0f} a second"
        )


def replay(text, prefix):
    """One schedule, alone on an arena of its own."""
    schedule = parse(text)
    with Stage(f"{prefix}alone", schedule.kind) as stage:
        return stage.play(schedule)


def play_all(texts, prefix, total, again="", show=None):
    """Play schedules of one kind of arena on as few arenas as faults allow."""
    stage = None
    try:
        for text in texts:
            if len(total.faults) >= total.most:
                break
            schedule = parse(text)
            if stage is None:
                stage = Stage(f"{prefix}stage", schedule.kind)
            outcome = stage.play(schedule)
            total.add(outcome)
            if outcome.faults or stage.worn:
                stage.close()
                stage = None
            if outcome.faults:
                alone = replay(text, prefix).faults
                line = f"--replay '{text}'" if alone else f"{again}     # in the middle of a life, not alone: {text}"
                total.faults.append(("; ".join(outcome.faults), line))
                if show:
                    show(*total.faults[-1])
    finally:
        if stage is not None:
            stage.close()


def texts_of_life(seed, life, points, count=LIFE):
    rng = random.Random(f"{seed}/{life}")
    chooser = Chooser(rng, rng.choice(list(KINDS)), points)
    return [chooser.choose() for _ in range(count)]


def play_lives(seed, lives, prefix, total, show=None, count=LIFE):
    """Play the lives of these numbers."""
    points, began = Points(prefix), time.monotonic()
    for life in lives:
        play_all(texts_of_life(seed, life, points, count), prefix, total, f"--seed {seed} --life {life}", show)
    total.seconds = time.monotonic() - began
    return total
