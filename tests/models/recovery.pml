/* Recovery without a rescue byte: what a dead worker leaves is taken over under that worker's own lock, and newcomers choose a
 * slot without any lock. Every access to a shared word is one step; a worker may die before any step that writes, while it
 * waits, and when it is idle. README.md says what is checked and what is left out.
 *
 * What a run may set, in #defines before this text:
 *   A B C     role of the worker in slot 0, 1, 2: WORK, RESCUE, RESIZE, CLOSE, CHECK, or FREE
 *   D         the same of a fourth slot, which is only there if this is set
 *   NEWCOMERS how many processes look for a slot
 *   DEATHS    in all
 *   MAY_DIE   who
 *   CLOSES    a newcomer that is a worker closes
 *   STOPS     a newcomer may be stopped for ever before it is a worker
 *   UNUSED    slots at the end that have no memory yet
 *   SLOTS     2: there is no third
 *   M_...     a mistake that must be found
 */
#define FREE   0
#define WORK   1        /* moves a token between its list and the bucket */
#define RESCUE 2        /* recovers whoever is dead */
#define RESIZE 3        /* empties the lists of the living */
#define CLOSE  4
#define CHECK  5        /* stops the world and looks */
#define NEW    6        /* a newcomer, then WORK */
#define LAST   7        /* a newcomer that does not die, when all is still: cleans up and looks */

#ifndef A
#define A WORK
#endif
#ifndef B
#define B RESCUE
#endif
#ifndef C
#define C RESCUE
#endif
#ifndef NEWCOMERS
#define NEWCOMERS 0
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef UNUSED
#define UNUSED 0
#endif
#ifdef D
#define N 4
#define FOURTH(a) a
#else
#define N 3
#define FOURTH(a)
#endif
#ifndef SLOTS
#define SLOTS N
#endif

#define BUCKET N                        /* a lock, and the place that it guards */
#define GATE (N + 1)                    /* a lock: held by who stops the world */
#define DEPOT (N + 1)                   /* a place */
#define ID(s) (gen[s] * 8 + s + 1)      /* generation << 16 | slot + 1 */
#define SLOT(o) (((o) & 7) - 1)
#define ME _pid
#define BIT(l) (1 << (l))

/* --- the arena --- */
byte word[N + 2];                       /* owner words: the own lock of each slot, bucket, gate */
byte place[N + 2];                      /* how many tokens: the list of each slot, bucket, depot */
bit  state[N];                          /* SLOT_LIVE */
byte gen[N];
byte held[N];                           /* a bit for each lock */
byte jlen[N], jfrom[N], jto[N], jold0[N], jold1[N];     /* the journals: one move, two entries */
byte slots_high = SLOTS - UNUSED;

/* --- the kernel --- */
byte live[N];                           /* who holds the liveness byte */
byte come[N];                           /* who holds the newcomer byte */
bit  backed[N];

/* --- what only the properties know --- */
byte has[N + 2];                        /* who acts under the lock */
byte settling[N];
byte stopped;                           /* who has stopped the world */
byte total, deaths, running;

#ifndef MAY_DIE
#define MAY_DIE true
#endif
#define MORTAL (role != LAST && (MAY_DIE))
#define DROP1(v) if :: v == ME -> v = 0 :: else fi;
#define DROP \
    DROP1(live[0]) DROP1(live[1]) DROP1(live[2]) FOURTH(DROP1(live[3])) \
    DROP1(come[0]) DROP1(come[1]) DROP1(come[2]) FOURTH(DROP1(come[3])) \
    DROP1(has[0]) DROP1(has[1]) DROP1(has[2]) DROP1(has[3]) DROP1(has[4]) FOURTH(DROP1(has[5])) \
    DROP1(settling[0]) DROP1(settling[1]) DROP1(settling[2]) FOURTH(DROP1(settling[3])) DROP1(stopped) \
    running--; CLEAR; me = 0; id = 0; lock = 0
#define CLEAR o = 0; x = 0; y = 0; i = 0; n = 0; g = 0; r = 0; some = 0; late = 0; twice = 0
#define DEATH :: atomic { MORTAL && deaths < DEATHS -> goto dead }
#ifdef STOPS
#define STOP  :: d_step { role == NEW && !in -> running-- } -> goto end_stopped
#else
#define STOP
#endif

#define STEP(a) if :: d_step { a } DEATH STOP fi        /* writes something that others see */
#define LOOK(a) if :: d_step { a } fi            /* reads: to die before it is to die after it, before the next write */
#define UNTIL(c) if :: d_step { c -> skip } DEATH STOP fi

#define GOT(l) assert(has[l] == 0); has[l] = ME

/* Neither a worker nor a newcomer, who may be stopped, has a slot. */
#define HAD_BY_NONE(s) (live[s] == 0 && come[s] == 0)

/* Nobody lives in a slot: who has its byte is about to. */
#define NO_WORKER(s) (live[s] == 0 || come[s] == live[s])

/* What tells a lock that is waited for from a stray write: the living worker that its word names has noted it, or has
 * stopped the world, or is a newcomer: of whom it is the slot's own lock, or who has yet to settle the dead one. */
#define CLAIMED \
    (word[lock] != o || live[SLOT(o)] == 0 || !state[SLOT(o)] || (held[SLOT(o)] & BIT(lock)) || word[GATE] == o || \
     (lock == SLOT(o) && o == ID(SLOT(o))) || come[SLOT(o)])

/* lock_try: the note before the compare-and-swap. r = 1: it is ours. */
#ifdef M_LATE_HELD
#define TAKE(l) \
    STEP(if :: word[l] == 0 -> word[l] = id; GOT(l); r = 1 :: else -> r = 0 fi); \
    if :: r -> STEP(held[me] = held[me] | BIT(l)) :: else fi
#else
#define TAKE(l) \
    STEP(held[me] = held[me] | BIT(l)); \
    STEP(if :: word[l] == 0 -> word[l] = id; GOT(l); r = 1 :: else -> r = 0 fi); \
    if :: r == 0 -> STEP(held[me] = held[me] & ~BIT(l)) :: else fi
#endif
#define GIVE(l) \
    STEP(assert(word[l] == id && has[l] == ME); word[l] = 0; has[l] = 0); \
    STEP(held[me] = held[me] & ~BIT(l))

/* A transaction of this worker, journalled: all tokens of one place to another. Both, and its own, are locked. */
#define ACTS assert(has[me] == ME && (stopped == 0 || stopped == ME))
#define MOVE(a, b) \
    STEP(ACTS; assert(jlen[me] == 0); jfrom[me] = a; jto[me] = b; jold0[me] = place[a]; jlen[me] = 1); \
    n = place[a]; \
    STEP(ACTS; place[a] = 0); \
    STEP(ACTS; jold1[me] = place[b]; jlen[me] = 2); \
    STEP(ACTS; place[b] = jold1[me] + n; n = 0); \
    STEP(ACTS; jlen[me] = 0; jfrom[me] = 0; jto[me] = 0; jold0[me] = 0; jold1[me] = 0)

proctype worker(byte me, role)
{
    byte id, o, x, y, i, n, g, lock;
    bit r, some, in = (role < NEW);     /* in: is a worker */
    bit late, twice;                    /* of a newcomer that looks once more */

    if
    :: role >= NEW -> me = N; goto attach
    :: else -> id = ID(me)
    fi;
work:
    LOOK(CLEAR);
    if
    :: role == RESCUE || role == LAST -> goto rescue
    :: role == RESIZE -> goto resize
    :: role == CHECK -> goto check
    :: else
    fi;

    /* --- a verb, or the end of a worker: own lock, bucket, a transaction --- */
    lock = me;
    TAKE(me);
    if :: r == 0 -> goto wait :: else fi;
    if
    :: role == CLOSE ->
#ifndef M_CLOSES_FULL
        if
        :: place[me] ->
            lock = BUCKET;              /* the depot's own lock is left out */
            TAKE(BUCKET);
            if
            :: r == 0 -> GIVE(me); goto wait
            :: else
            fi;
            MOVE(me, DEPOT);
            GIVE(BUCKET)
        :: else
        fi;
#endif
        GIVE(me);
#ifdef M_BYTE_BEFORE_FREE
        STEP(live[me] = 0);
        STEP(state[me] = 0);
#else
        STEP(state[me] = 0);
        STEP(live[me] = 0);
#endif
        goto done
    :: else
    fi;
    lock = BUCKET;
    TAKE(BUCKET);
    if
    :: r == 0 -> GIVE(me); goto wait
    :: else
    fi;
    if
    :: place[me] -> MOVE(me, BUCKET)
    :: else -> if :: place[BUCKET] -> MOVE(BUCKET, me) :: else fi
    fi;
    GIVE(BUCKET);
    GIVE(me);
    goto idle;

    /* --- wait, with nothing held (a checker: with own locks). A dead holder is rescued. --- */
wait:
    LOOK(o = word[lock]);
    if :: o == 0 -> goto again :: else fi;
    LOOK(r = (live[SLOT(o)] == 0); assert(CLAIMED));
    if :: r -> goto rescue :: else fi;
    UNTIL(word[lock] != o || live[SLOT(o)] == 0);
    goto wait;
again:
    o = 0; r = 0;
    if
    :: role == CHECK && lock != GATE -> goto stop
    :: else -> goto work
    fi;

    /* --- who resizes: own lock, then only tries the other's --- */
resize:
    if
    :: x == N -> goto idle
    :: x != N && x == me -> goto resized
    :: else
    fi;
    LOOK(r = state[x]);
    if :: r == 0 -> goto resized :: else fi;
    lock = me;
    TAKE(me);
    if :: r == 0 -> goto wait :: else fi;
    TAKE(x);
    if
    :: r ->
#ifndef M_RESIZER_TRUSTS
        /* Not settled, and nobody's own: given back by a rescuer who met a newcomer. */
        LOOK(r = (jlen[x] != 0));
        if
        :: r
        :: else -> if :: place[x] -> MOVE(x, me) :: else fi
        fi;
#else
        if :: place[x] -> MOVE(x, me) :: else fi;
#endif
        GIVE(x)
    :: else
    fi;
    GIVE(me);
resized:
    x++;
    r = 0;
    goto resize;

    /* --- rescue: every dead worker, again while that helps. With no own lock held, but for a checker --- */
rescue:
    LOOK(x = 0; some = 0);
visit:
    if
    :: x == N -> goto visited
    :: x != N && x == me -> goto passed
    :: else
    fi;
    LOOK(r = (x < slots_high); if :: r -> assert(backed[x]); r = state[x] :: else fi);
    if :: r == 0 -> goto passed :: else fi;
    LOOK(r = (live[x] != 0));
    if :: r -> goto passed :: else fi;
#ifdef M_BURIES_WITHOUT
    goto sole;
#endif
    /* First the word, then the byte of the slot it names: whoever had that byte when it wrote the word is dead then. */
    LOOK(o = word[x]);
    if
    :: o == id -> goto look_again       /* a checker has it already */
    :: o != id && o != 0 ->
#ifdef M_EXACT
        if :: SLOT(o) == x && o != ID(x) -> goto passed :: else fi;
#endif
#ifdef M_BYTE_FIRST
        if
        :: SLOT(o) != x -> LOOK(r = (live[SLOT(o)] != 0))
        :: else
        fi;
#else
        LOOK(r = (live[SLOT(o)] != 0));
#endif
        if :: r -> goto passed :: else fi;
        if
        :: SLOT(o) != x ->
#ifdef M_NEVER_FROM_ANOTHER
            goto passed
#endif
#ifndef M_FROM_ANY
            /* Its journal may cover this slot's words: it is settled first. */
            LOOK(r = (jlen[SLOT(o)] != 0));
            if :: r -> goto passed :: else fi
#endif
        :: else
        fi
    :: else
    fi;
    STEP(held[me] = held[me] | BIT(x));
    STEP(if :: word[x] == o -> word[x] = id; GOT(x); r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto unnote :: else fi;
look_again:
#ifndef M_NO_SECOND_LOOK
    LOOK(r = (state[x] == 0); g = gen[x]);
    if :: r -> goto unhold :: else fi;
    LOOK(r = (live[x] != 0));
    if :: r -> goto unhold :: else fi;
#ifndef M_ONE_LOOK
    /* It may have closed when the kernel was asked, and another have come since. */
    LOOK(r = (state[x] == 0));
    if :: r -> goto unhold :: else fi;
    LOOK(r = (gen[x] != g));
    if :: r -> goto unhold :: else fi;
#endif
    g = 0;
#endif
sole:
    y = x;
    goto settle;
settled:
    if
    :: role == CHECK -> goto unhold     /* a check buries nobody */
    :: else
    fi;
#ifdef M_FREE_FIRST
    STEP(state[x] = 0);
#endif
    TAKE(me);
    if :: r == 0 -> goto unhold :: else fi;
    if :: place[x] -> MOVE(x, me) :: else fi;
    if
    :: STEP(assert(NO_WORKER(x)); state[x] = 0; some = 1)
    :: role != LAST                     /* the depot was BUSY */
    fi;
    GIVE(me);
unhold:
    g = 0;
#ifdef M_BURIES_WITHOUT
    if :: has[x] != ME -> goto passed :: else fi;
#endif
    if
    :: o == id -> goto passed           /* a checker's, since before: the world is being stopped */
    :: else
    fi;
    STEP(assert(word[x] == id && has[x] == ME); word[x] = 0; has[x] = 0);
unnote:
    STEP(held[me] = held[me] & ~BIT(x));
passed:
    LOOK(o = 0; r = 0; y = 0; x++);
    goto visit;
visited:
    x = 0;
    if
    :: some -> goto rescue
    :: else
    fi;
    if
    :: role == RESCUE -> goto idle
    :: role == LAST -> goto last
    :: else -> goto again
    fi;

    /* --- settle slot y, whose own lock is ours --- */
settle:
    LOOK(assert(settling[y] == 0 && NO_WORKER(y)); settling[y] = ME; n = jlen[y];
         /* A newcomer that died at the gate left nothing. */
         assert(stopped == 0 || stopped == ME || (n == 0 && held[y] == 0)));
#ifdef M_RELEASE_FIRST
    goto locks;
undo:
#endif
    if
    :: n > 0 ->
        if :: n == 2 -> STEP(place[jto[y]] = jold1[y]) :: else fi;
        STEP(place[jfrom[y]] = jold0[y]);
        STEP(jlen[y] = 0; jfrom[y] = 0; jto[y] = 0; jold0[y] = 0; jold1[y] = 0; some = 1)
    :: else
    fi;
    n = 0;
#ifdef M_RELEASE_FIRST
    goto undone;
#endif
locks:
    /* What names the slot, whatever the generation: only this newcomer's own new name is not a dead one's. */
#ifdef M_EXACT
#define NAMES(l) (word[l] == ID(y))
#else
#define NAMES(l) (word[l] != 0 && SLOT(word[l]) == y && word[l] != id)
#endif
#ifdef M_RELEASES_BY_STORE
#define FREES(l, c) LOOK(r = (c && NAMES(l))); if :: r -> STEP(word[l] = 0; some = 1; r = 0) :: else fi
#else
#define FREES(l, c) STEP(if :: c && NAMES(l) -> word[l] = 0; some = 1 :: else fi)
#endif
    FREES(BUCKET, (held[y] & BIT(BUCKET)));
    FREES(GATE, (held[y] & BIT(GATE)));
    STEP(held[y] = 0);
#ifndef M_NO_SCAN
    FREES(0, y != 0);
    FREES(1, y != 1);
    FREES(2, y != 2);
    FOURTH(FREES(3, y != 3));
#endif
#ifdef M_RELEASE_FIRST
    goto undo;
undone:
#endif
    settling[y] = 0;
    if
    :: me == y -> goto settled_own
    :: me != y && x == N -> goto stopping   /* a checker that found it so */
    :: me != y && x != N -> goto settled
    fi;

    /* --- who stops the world: the gate, then every own lock --- */
check:
    i = 0;
    lock = GATE;
    LOOK(o = word[GATE]);
    if
    :: o != 0 ->
        LOOK(r = (live[SLOT(o)] != 0));
        if :: r -> goto wait :: else fi
    :: else
    fi;
#ifdef M_STATES_FIRST
    LOOK(some = state[2]);
#endif
    STEP(held[me] = held[me] | BIT(GATE));
    STEP(if :: word[GATE] == o -> word[GATE] = id; GOT(GATE); r = 1 :: else -> r = 0 fi);
    if
    :: r == 0 -> STEP(held[me] = held[me] & ~BIT(GATE)); goto wait
    :: else
    fi;
    goto stop;
stop:
    x = 0;
    if :: i == N -> goto still :: else fi;
    lock = i;
    LOOK(r = state[i]);
#ifdef M_STATES_FIRST
    if :: i == 2 -> r = some :: else fi;
#endif
    if :: r == 0 -> goto stopping :: else fi;
    STEP(if :: word[i] == 0 -> word[i] = id; GOT(i); r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto wait :: else fi;
    if :: i == me -> goto stopping :: else fi;
    /* Free, and not settled: nobody's, or a newcomer's who is about to. */
    LOOK(r = (jlen[i] != 0));
    if :: r == 0 -> goto stopping :: else fi;
    /* If it is no stray word: who has the byte is a newcomer, and says so. */
    LOOK(r = (live[i] == 0); assert(r || come[i] == live[i]));
    if
    :: r -> y = i; x = N; goto settle
    :: else ->
        STEP(word[i] = 0; has[i] = 0);
        UNTIL(jlen[i] == 0 || live[i] == 0);
        goto stop
    fi;
stopping:
    LOOK(i++; r = 0; y = 0);
    goto stop;
still:
    x = 0;
    some = 0;
    STEP(assert(stopped == 0 && jlen[0] + jlen[1] + jlen[2] FOURTH(+ jlen[3]) == 0); stopped = ME);
    STEP(stopped = 0);
    i = 0;
    do
    :: i < N -> STEP(if :: word[i] == id -> word[i] = 0; has[i] = 0 :: else fi); i++
    :: else -> break
    od;
    GIVE(GATE);
    goto idle;

    /* --- a newcomer: a free slot, one never used, a dead worker's; each is looked at once, but by the last --- */
attach:
    if
    :: role == LAST -> running == 0; i++; assert(i <= N)        /* as many rounds as slots do */
    :: else
    fi;
    LOOK(x = 0; n = FREE);
choose:
    if
    :: x == N && n == FREE -> n = 1; x = 0; goto fresh
    :: x == N && n != FREE ->
        if
        :: late -> late = 0; twice = 1; goto attach     /* one was somebody else's for a moment */
        :: !late && role == LAST && (HAD_BY_NONE(0) || HAD_BY_NONE(1) || (HAD_BY_NONE(2) && SLOTS > 2)
                                     FOURTH(|| HAD_BY_NONE(3))) -> goto attach
        :: else -> goto nowhere
        fi
    :: else
    fi;
    if :: x >= slots_high -> x++; goto choose :: else fi;
    LOOK(assert(backed[x]); r = (state[x] == n));
    if :: r == 0 -> x++; goto choose :: else fi;
    if
    :: n -> LOOK(r = (live[x] != 0)); if :: r -> x++; goto choose :: else fi
    :: else
    fi;
#ifndef M_COME_LATE
    STEP(if :: come[x] == 0 -> come[x] = ME; r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto contested :: else fi;
#endif
    STEP(if :: live[x] == 0 -> live[x] = ME; r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto not_mine :: else fi;
#ifdef M_COME_LATE
    STEP(come[x] = ME);
#endif
    if :: n -> goto heir :: else fi;
#ifndef M_NO_REREAD
    LOOK(r = state[x]);
    if :: r -> goto leave :: else fi;
#endif
enter:
    /* A free slot leads to nothing. */
    LOOK(assert(place[x] == 0 && jlen[x] == 0 && held[x] == 0));
    STEP(gen[x]++);
    LOOK(me = x; id = ID(me); lock = 0);
#ifndef M_TRUSTS_OWN
    /* Of a newcomer that died as the heir of a slot that had just been buried. */
    STEP(if :: word[me] != 0 && SLOT(word[me]) == me -> word[me] = 0 :: else fi);
#endif
alive:
    LOOK(n = 0; r = 0);
#ifdef M_GATE_FIRST
    LOOK(o = word[GATE]);
    STEP(assert(state[me] == 0); state[me] = 1);
    STEP(come[me] = 0);
#else
    STEP(assert(state[me] == 0); state[me] = 1);
    STEP(come[me] = 0);
    LOOK(o = word[GATE]);
#endif
gate:
    if
    :: o != 0 ->
        /* Held by a dead one it stops nobody. */
        UNTIL(word[GATE] != o || live[SLOT(o)] == 0)
    :: else
    fi;
    in = 1;
#ifdef CLOSES
    role = CLOSE;
#endif
    some = 0; late = 0; twice = 0;
    goto work;

fresh:
#if UNUSED
    LOOK(x = slots_high);
    do
    :: x == SLOTS -> x = 0; goto choose
    :: else ->
        STEP(if :: come[x] == 0 -> come[x] = ME; r = 1 :: else -> r = 0 fi);
        if
        :: r ->
            STEP(if :: live[x] == 0 -> live[x] = ME :: else -> r = 0 fi);
            if :: r == 0 -> STEP(come[x] = 0) :: else fi
        :: else
        fi;
        if :: r -> break :: else -> x++ fi
    od;
    r = 0;
    LOOK(i = slots_high);
    if
    :: x < i -> i = 0; STEP(live[x] = 0); STEP(come[x] = 0); x = 0; n = FREE; goto choose     /* somebody was quicker */
    :: else
    fi;
#ifdef M_BACKS_ONE
    STEP(backed[x] = 1);
#else
    /* Those below too, whose newcomers may be stopped or dead: all below slots_high have memory. */
    do
    :: i <= x -> STEP(backed[i] = 1); i++
    :: else -> break
    od;
#endif
    i = 0;
    STEP(if :: slots_high < x + 1 -> slots_high = x + 1 :: else fi);
    goto enter;
#else
    goto choose;
#endif

    /* A dead worker's slot x, whose bytes are ours: a name of our own, and then its own lock. */
heir:
#ifndef M_GEN_LATE
    STEP(gen[x]++);
    id = ID(x);
#else
    id = ID(x) + 8;
#endif
    LOOK(o = word[x]);
    if
    :: o != 0 && SLOT(o) != x ->
        LOOK(r = (live[SLOT(o)] != 0));
        if :: r -> goto leave :: else fi;
#ifdef M_NEVER_FROM_ANOTHER
        goto leave;
#endif
        LOOK(r = (jlen[SLOT(o)] != 0));
        if :: r -> goto leave :: else fi
    :: else
    fi;
#ifdef M_COME_EARLY
    STEP(come[x] = 0);
#endif
    STEP(if :: word[x] == o -> word[x] = id; GOT(x); r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto leave :: else fi;
    me = x;
    LOOK(r = state[x]);
    if
    :: r == 0 -> goto inherited         /* buried meanwhile */
    :: else
    fi;
    LOOK(y = x; x = 0; o = 0; n = 0);
    goto settle;
settled_own:
#ifdef M_GEN_LATE
    STEP(gen[me]++);
#endif
inherited:
    LOOK(x = 0; y = 0; o = 0; n = 0; lock = 0; late = 0);
    STEP(state[me] = 1);
    STEP(word[me] = 0; has[me] = 0);
#ifndef M_COME_EARLY
    STEP(come[me] = 0);
#endif
    LOOK(o = word[GATE]);
    goto gate;
leave:
    /* Its lock is a living one's, or that of a dead one who must be settled first: whose slot we may have instead. */
    id = 0; o = 0; r = 0;
#ifndef M_KEEPS_BYTE
    STEP(live[x] = 0);
#endif
not_mine:
    STEP(if :: come[x] == ME -> come[x] = 0 :: else fi);
contested:
    LOOK(late = (role == NEW && n && !twice); r = 0; x++);
    goto choose;

#define CLEAN(s) \
    assert(word[s] == 0 || (!state[s] && SLOT(word[s]) == s));  /* see `enter` */ \
    assert(state[s] -> live[s] : !place[s])
last:
    /* One pass more, and all is clean: whoever was dead is buried, or is this one. */
    LOOK(
        assert(word[BUCKET] == 0 && word[GATE] == 0);
        CLEAN(0); CLEAN(1); CLEAN(2); FOURTH(CLEAN(3);)
        assert(jlen[0] + jlen[1] + jlen[2] FOURTH(+ jlen[3]) == 0);
        assert(held[0] == 0 && held[1] == 0 && held[2] == 0 FOURTH(&& held[3] == 0)));
    goto gone;
nowhere:
    /* No slot to be had. */
    if
    :: role == LAST -> goto gone
    :: else -> goto done
    fi;
idle:
    /* A worker that has nothing to do may die of that, too. */
    STEP(skip);
done:
    LOOK(running--; CLEAR; lock = 0; id = 0; me = 0);
    goto gone;
dead:
    if
    :: d_step { deaths++; DROP } -> goto gone
    fi;
end_stopped:
    false;
gone:
    skip
}

/* A token is never lost nor had twice: whenever no transaction is open, the places hold all of them. */
proctype monitor()
{
end:
    d_step { jlen[0] + jlen[1] + jlen[2] FOURTH(+ jlen[3]) == 0 &&
             place[0] + place[1] + place[2] FOURTH(+ place[3]) + place[BUCKET] + place[DEPOT] != total ->
             assert(false) }
}

#define PUT_IN(s, role) \
    if :: role != FREE -> state[s] = 1; gen[s] = 1; place[s] = 1; total++; running++; live[s] = run worker(s, role) \
       :: else fi

init
{
    atomic {
        backed[0] = 1;
        backed[1] = (slots_high > 1);
        backed[2] = (slots_high > 2);
        FOURTH(backed[3] = (slots_high > 3);)
        PUT_IN(0, A);
        PUT_IN(1, B);
        PUT_IN(2, C);
        FOURTH(PUT_IN(3, D);)
#if NEWCOMERS > 0
        running++; run worker(N, NEW);
#endif
#if NEWCOMERS > 1
        running++; run worker(N, NEW);
#endif
        run worker(N, LAST);
        run monitor()
    }
}
