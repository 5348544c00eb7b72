/* The bucket lock and its recovery, as shm/lock.pxd, waiting.py, recovery.py, liveness.py, journal.pxd and workers.py have
 * them. Every access to a shared word is one step; a worker may die before any of them. README.md says what is
 * checked and what is left out.
 *
 * What a run may set, in #defines before this text:
 *   WORKERS   2 or 3, and as many slots          ROUNDS    locked sections of each; a newcomer has one
 *   DEATHS    in all                             RESTARTS  newcomers in all
 *   MAY_DIE   who: of HOLDER, POSTER, RECEIVER, RESCUER
 *   SLICES    a time slice ends only when nothing else can happen, and is counted: never more than this many, and one
 *             for every heir that gives a slot back
 *   ANYTIME   a time slice may end at any moment, uncounted
 *   ROLLS_BACK  a section may end by rolling back
 *   READER    somebody reads without the lock
 *   GIVES_UP  whoever was woken may finish without taking the lock
 *   M_...     a mistake that must be found
 */
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef SLICES
#define SLICES deaths
#endif

#ifndef MAY_DIE
#define MAY_DIE true
#endif
#define HOLDER   (inside == ME)
#define POSTER   ((r & WAITS) != 0)     /* gave the lock back, and has not posted yet */
#define RECEIVER waited                 /* woken, and has not taken the lock yet */
#define RESCUER  rescues

#ifndef WORKERS
#define WORKERS 3
#endif
#define N WORKERS
#define WAITS 128                   /* OWNER_WAITS */
#define ID(s) (gen[s] * 4 + s + 1)  /* generation << 16 | slot + 1 */
#define SLOT(o) (((o) & 3) - 1)
#define ME _pid                     /* 1 to N */

/* --- the arena --- */
byte owner, seq, sem;               /* one bucket's lock, and its semaphore's count */
byte a = 1, b = 1;                  /* what it protects: equal, outside sections */
bit  state[N] = 1;                  /* SLOT_LIVE */
byte gen[N] = 1;
byte own[N];                        /* own locks, as far as rescuers and heirs take them: see README.md */
byte jlen[N];                       /* the journals: entry n is the old value of word n */
byte jold[2 * N];
bit  held[N];                       /* the bucket's entry; the own lock's is left out */

/* --- the kernel: who holds which liveness byte --- */
byte live[N];

/* --- what only the properties know --- */
byte version = 1;                   /* value of the last committed section */
byte inside;                        /* who took the lock; a dead one until it is released for it */
byte settling[N];                   /* who settles a slot */
byte deaths, restarts, forced, gave_back;
byte running = N;                   /* workers that neither sleep nor are gone */

#if WORKERS > 2
#define THIRD(a) a
#else
#define THIRD(a)
#endif
#define DROP_OF(s) \
    if :: live[s] == ME -> live[s] = 0 :: else fi; \
    if :: settling[s] == ME -> settling[s] = 0 :: else fi;
#define DROP \
    DROP_OF(0) DROP_OF(1) THIRD(DROP_OF(2)) \
    id = 0; o = 0; i = 0; n = 0; r = 0; w = 0; some = 0; before = 0; left = 0; pass = 0; waited = 0; rescues = 0; \
    rounds = 0; slot = 0

#define DEATH   :: d_step { deaths < DEATHS && (MAY_DIE) -> deaths++; running--; DROP } -> goto dead
#define STEP(x) if :: d_step { x } DEATH fi

/* No post where one is waiting for everybody already; looking and posting are two steps. `r` is free here. */
#define POST    STEP(r = (sem < 3 -> WAITS : 0)); if :: r -> STEP(sem++; r = 0) :: else fi

#define TAKEN() \
    assert(inside == 0 && a == b && a == version && (seq & 1) == 0); inside = ME
#define RELEASED \
    inside = 0; assert(a == b && a == version && (seq & 1) == 0)

proctype worker(byte slot)
{
    byte id = ID(slot), o, i, n, r, rounds = ROUNDS;
    byte w, before, left;           /* of rescue(): an own lock's word; how many of the dead could not be had */
    byte pass;                      /* 0, 1: the passes of rescue(), or of a newcomer; 2: an heir settles its slot */
    bit some, waited, rescues;

round:
    if
    :: rounds == 0 -> goto close
    :: else
    fi;

    /* --- lock_try --- */
again:
#ifdef M_FORGETS
    waited = 0;
#endif
#ifndef M_LATE_HELD
    STEP(held[slot] = 1);
#endif
    STEP(if
         :: owner == 0 -> owner = (waited -> id | WAITS : id); TAKEN(); r = 1; waited = 0
         :: else -> r = 0
         fi);
    if
    :: r == 0 ->
        STEP(held[slot] = 0);
        goto wait
    :: else -> r = 0
    fi;
#ifdef M_LATE_HELD
    STEP(held[slot] = 1);
#endif
#ifndef M_LATE_SEQ
    STEP(seq++);
#endif

    /* --- the section: store, store, then commit, or roll back after a fault --- */
#ifdef M_WORD_BEFORE_JOURNAL
    STEP(n = a; a++);
    STEP(jold[slot * 2] = n; n = 0);
    STEP(jlen[slot] = 1);
#else
#ifdef M_LATE_JOURNAL
    STEP(jlen[slot] = 1);
    STEP(jold[slot * 2] = a);
#else
    STEP(jold[slot * 2] = a);
    STEP(jlen[slot] = 1);
#endif
    STEP(a++);
#endif
#ifdef M_LATE_SEQ
    STEP(seq++);
#endif
    STEP(jold[slot * 2 + 1] = b);
    STEP(jlen[slot] = 2);
    STEP(assert(inside == ME); b++);
    if
    :: STEP(jlen[slot] = 0; version = a; jold[slot * 2] = 0; jold[slot * 2 + 1] = 0)
#ifdef ROLLS_BACK
    :: STEP(b = jold[slot * 2 + 1]);
       STEP(a = jold[slot * 2]);
       STEP(jlen[slot] = 0; jold[slot * 2] = 0; jold[slot * 2 + 1] = 0)
#endif
    fi;

    /* --- unlock --- */
    STEP(seq++);
    STEP(r = owner; owner = 0; assert(inside == ME && (r & 127) == id); RELEASED);
    STEP(held[slot] = 0);
    if
    :: r & WAITS ->
#ifdef M_LOSES_POST
        if
        :: POST
        :: skip
        fi
#else
        POST
#endif
    :: else
    fi;
    r = 0;
    rounds--;
    goto round;

    /* --- wait, with nothing held. What spins only adds loads that change nothing. --- */
wait:
    STEP(o = owner);
    if
    :: o == 0 -> goto again
    :: else -> assert(SLOT(o) != slot)
    fi;
#ifndef M_NEVER_ASKS
    STEP(r = (live[SLOT(o)] == 0));
#endif
    if
    :: r -> r = 0; goto rescue
    :: else
    fi;
sleep:
    if
    :: o & WAITS
    :: else ->
        STEP(if
             :: owner == o -> owner = o | WAITS
             :: else -> r = 1
             fi);
        if
        :: r -> r = 0; o = 0; goto again
        :: else
        fi
    fi;
    o = 0;
    if
    :: d_step { sem > 0 -> sem-- }
    :: d_step { sem == 0 -> running-- } ->
        if
        :: d_step { sem > 0 -> sem--; running++ }
#ifdef ANYTIME
        :: d_step { sem == 0 -> running++ }
#else
        :: d_step { sem == 0 && running == 0 -> running++; forced++; assert(forced <= SLICES + gave_back) }
#endif
        :: d_step { deaths < DEATHS && (MAY_DIE) -> deaths++; DROP } -> goto dead
        fi
    DEATH
    fi;
    waited = 1;
#ifdef GIVES_UP
    if
    :: waited = 0; rounds--; goto round
    :: skip
    fi;
#endif
    goto again;

    /* --- rescue: every dead worker that can be had, again while that helps; then all that is left of them --- */
rescue:
    rescues = 1;
    before = N + 1;
again_while:
    i = 0;
    left = 0;
    some = 0;
scan:
    if
    :: i == N -> goto scanned
    :: i < N && i == slot -> goto next
    :: else
    fi;
    STEP(r = state[i]);
    if :: r == 0 -> goto next :: else fi;
    STEP(r = live[i]);
    if :: r != 0 -> goto next :: else fi;
#ifndef M_NO_ADOPTION
    /* First the word, then the byte of the slot it names. */
    STEP(w = own[i]);
    if
    :: w ->
#ifndef M_NEVER_ASKS_AGAIN
        STEP(r = live[SLOT(w)]);
        if :: r != 0 -> goto not_had :: else fi;
#endif
        if
        :: SLOT(w) != i -> STEP(r = jlen[SLOT(w)]); if :: r != 0 -> goto not_had :: else fi
        :: else
        fi
    :: else
    fi;
    STEP(if :: own[i] == w -> own[i] = id; r = 1 :: else -> r = 0 fi);
    w = 0;
    if :: r == 0 -> goto not_had :: else fi;
    STEP(r = state[i]; w = gen[i]);
    if :: r == 0 -> goto unhold :: else fi;
    STEP(r = live[i]);
    if :: r != 0 -> goto unhold :: else fi;
#ifndef M_ONE_LOOK
    STEP(r = state[i]);
    if :: r == 0 -> goto unhold :: else fi;
    STEP(r = (gen[i] != w));
    if :: r != 0 -> goto unhold :: else fi;
#endif
    w = 0;
#endif
    r = 0;
    goto settle;
settled:
    if
    :: pass == 0 -> some = 1
    :: else ->
        if
        :: STEP(state[i] = 0)       /* buried */
        :: skip                     /* the depot was BUSY */
        fi
    fi;
unhold:
#ifndef M_NO_ADOPTION
    STEP(own[i] = 0);
#endif
    goto next;
not_had:
    left++;
next:
    r = 0;
    w = 0;
    i++;
    goto scan;
scanned:
    if
    :: pass == 0 && left && left < before -> before = left; goto again_while
    :: pass == 0 && !(left && left < before) && some -> pass = 1; i = 0; left = 0; some = 0;
#ifdef M_FORGETS
        waited = 0;
#endif
        goto scan
    :: else
    fi;
    i = 0; pass = 0; some = 0; left = 0; before = 0; rescues = 0;
    STEP(r = (owner == o));
    if
    :: r -> r = 0; goto sleep       /* its slot is in the hands of somebody else */
    :: else -> o = 0; goto again
    fi;

    /* --- settle_slot(i), whose own lock is ours --- */
settle:
    STEP(assert(settling[i] == 0); settling[i] = ME; n = jlen[i]);
#ifdef M_RELEASE_FIRST
    goto locks;
journal:
#endif
    do
    :: n > 0 ->
        n--;
        STEP(if :: n == 1 -> b = jold[i * 2 + 1] :: else -> a = jold[i * 2] fi)
    :: else -> break
    od;
    STEP(jlen[i] = 0; jold[i * 2] = 0; jold[i * 2 + 1] = 0);
#ifdef M_RELEASE_FIRST
    goto done_locks;
#endif
locks:
    STEP(r = held[i]);
    if
    :: r == 0 -> goto unlist
    :: else
    fi;
#ifdef M_EXACT
    STEP(r = ((owner & 127) == ID(i)));
#else
    STEP(r = (owner != 0 && SLOT(owner) == i && (owner & 127) != id));
#endif
    if
    :: r == 0 -> goto unlist
    :: else
    fi;
#ifndef M_RESCUER_LEAVES_SEQ
    STEP(r = seq & 1);
    if
    :: r -> STEP(seq++)
    :: else
    fi;
#endif
    STEP(r = owner; owner = 0; RELEASED);
    if
    :: r & WAITS -> POST
    :: else
    fi;
unlist:
    r = 0;
    STEP(held[i] = 0);
#ifdef M_RELEASE_FIRST
    goto journal;
done_locks:
#endif
#define FREES(s) STEP(if :: s != i && own[s] != 0 && SLOT(own[s]) == i -> own[s] = 0 :: else fi)
    FREES(0);
    FREES(1);
    THIRD(FREES(2);)
    settling[i] = 0;
    if
    :: pass == 2 -> goto inherited
    :: else -> goto settled
    fi;

    /* --- a newcomer: a free slot first, then a dead worker's --- */
attach:
    i = 0;
    pass = 0;
    slot = N;                       /* none */
look:
    if
    :: i == N && pass == 0 -> i = 0; pass = 1
    :: i == N && pass == 1 -> goto attach       /* as many slots as workers: it is somebody else's for a moment */
    :: else
    fi;
    STEP(r = (state[i] == pass));
    if
    :: r -> STEP(if :: live[i] == 0 -> live[i] = ME :: else -> r = 0 fi)
    :: else
    fi;
    if
    :: r == 0 -> i++; goto look
    :: else
    fi;
    if
    :: pass == 0 ->
        STEP(r = state[i]);
        if :: r -> r = 0; STEP(live[i] = 0); i++; goto look :: else fi
    :: else
    fi;
    STEP(gen[i]++);
    id = ID(i);
    if
    :: pass == 0 ->
        /* Of an heir that died when the slot had just been buried. */
        STEP(if :: own[i] != 0 && SLOT(own[i]) == i -> own[i] = 0 :: else fi);
        goto enter
    :: else
    fi;
    STEP(w = own[i]);
    if
    :: w != 0 && SLOT(w) != i ->
        STEP(r = live[SLOT(w)]);
        if :: r != 0 -> goto leave :: else fi;
        STEP(r = jlen[SLOT(w)]);
        if :: r != 0 -> goto leave :: else fi
    :: else
    fi;
    STEP(if :: own[i] == w -> own[i] = id; r = 1 :: else -> r = 0 fi);
    if :: r == 0 -> goto leave :: else fi;
    w = 0;
    STEP(r = state[i]);
    if
    :: r -> r = 0; pass = 2; goto settle
    :: else
    fi;
inherited:
    STEP(state[i] = 1);
    STEP(own[i] = 0);
    goto entered;
leave:
    w = 0; r = 0; id = 0;
    STEP(live[i] = 0; gave_back++);
    i++;
    if
    :: gave_back < 2 -> goto look
    :: else -> running--; i = 0; pass = 0; goto gone        /* ArenaBusy, in the end */
    fi;
enter:
    STEP(state[i] = 1);
entered:
    slot = i;
    pass = 0;
    i = 0;
    r = 0;
    rounds = 1;
    goto round;

close:
    STEP(state[slot] = 0);
    STEP(live[slot] = 0; running--);
    goto gone;

dead:
    if
    :: d_step { restarts < RESTARTS -> restarts++; running++ } -> goto attach
    :: skip
    fi;
gone:
    skip
}

/* Whenever the lock is free, what it protects is whole and the sequence word even. */
proctype monitor()
{
end:
    d_step { owner == 0 && (a != b || a != version || (seq & 1)) -> assert(false) }
}

#ifdef READER
/* seq_begin, a copy, seq_same: a copy that is accepted is of one moment. */
proctype reader()
{
    byte s, x, y;
end:
    do
    :: d_step { (seq & 1) == 0 -> s = seq };
       x = a;
       y = b;
#ifndef M_READER_TRUSTS
       if
       :: seq == s -> assert(x == y)
       :: else
       fi;
#else
       assert(x == y);
#endif
       s = 0; x = 0; y = 0
    od
}
#endif

init
{
    atomic {
        live[0] = 1; live[1] = 2;
        run worker(0); run worker(1);
#if WORKERS > 2
        live[2] = 3;
        run worker(2);
#endif
#ifdef READER
        run reader();
#endif
        run monitor()
    }
}
