/* The bucket lock and its recovery, as shm/lock.pxd, waiting.py, recovery.py, liveness.py, journal.pxd and workers.py have
 * them. Every access to a shared word is one step; a worker may die before any of them. README.md says what is
 * checked and what is left out.
 *
 * What a run may set, in #defines before this text:
 *   WORKERS   2 or 3, and as many slots          ROUNDS    locked sections of each; a newcomer has one
 *   DEATHS    in all                             RESTARTS  newcomers in all
 *   MAY_DIE   who: of HOLDER, POSTER, RECEIVER, RESCUER
 *   SLICES    a time slice ends only when nothing else can happen, and is counted: never more than this many
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
#define RESCUER  (rescue_byte == ME)

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
byte jlen[N];                       /* the journals: entry n is the old value of word n */
byte jold[2 * N];
bit  held[N];                       /* the bucket's entry; the own lock's is left out */

/* --- the kernel: who holds which byte of the file --- */
byte live[N];
byte rescue_byte;

/* --- what only the properties know --- */
byte version = 1;                   /* value of the last committed section */
byte inside;                        /* who took the lock; a dead one until it is released for it */
byte settling;                      /* who settles a journal */
byte deaths, restarts, forced;
byte running = N;                   /* workers that neither sleep nor are gone */

#if WORKERS > 2
#define DROP_THIRD if :: live[2] == ME -> live[2] = 0 :: else fi;
#else
#define DROP_THIRD
#endif
#define DROP \
    if :: rescue_byte == ME -> rescue_byte = 0 :: else fi; \
    if :: live[0] == ME -> live[0] = 0 :: else fi; \
    if :: live[1] == ME -> live[1] = 0 :: else fi; \
    DROP_THIRD \
    if :: settling == ME -> settling = 0 :: else fi; \
    id = 0; o = 0; i = 0; n = 0; r = 0; some = 0; pass = 0; waited = 0; rounds = 0; slot = 0

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
    byte pass;                      /* 0, 1: the two passes of rescue(); 2: a newcomer settles its slot */
    bit some, waited;

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
        :: d_step { sem == 0 && running == 0 -> running++; forced++; assert(forced <= SLICES) }
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

    /* --- rescue: -1 goes on to sleep --- */
rescue:
#ifndef M_NO_ELECTION
    STEP(if
         :: rescue_byte == 0 -> rescue_byte = ME; r = 1
         :: else -> r = 0
         fi);
    if
    :: r == 0 -> goto sleep
    :: else -> r = 0
    fi;
#endif
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
    STEP(if :: live[i] == 0 -> live[i] = ME :: else -> r = 1 fi);
    if :: r != 0 -> goto next :: else fi;
    STEP(r = state[i]);
    if
    :: r -> r = 0; goto settle
    :: else -> goto unhold
    fi;
settled:
    if
    :: pass == 2 -> goto enter
    :: pass == 0 -> some = 1
    :: pass == 1 ->
        if
        :: STEP(state[i] = 0)       /* buried */
        :: skip                     /* the depot was BUSY */
        fi
    fi;
unhold:
    STEP(live[i] = 0);
next:
    r = 0;
    i++;
    goto scan;
scanned:
    i = 0;
    if
    :: slot == N -> some = 0; goto look
    :: slot < N && pass == 0 && some ->
        pass = 1;
#ifdef M_FORGETS
        waited = 0;
#endif
        goto scan
    :: else
    fi;
    pass = 0;
    some = 0;
    STEP(if :: rescue_byte == ME -> rescue_byte = 0 :: else fi);
    /* Nobody may be told that the arena is corrupt. */
    STEP(r = (owner == o));
    if
    :: r -> STEP(assert(state[SLOT(o)] && (o & 127) == ID(SLOT(o))))
    :: else
    fi;
    r = 0;
    o = 0;
    goto again;

    /* --- settle_slot(i), whose liveness byte is ours --- */
settle:
    STEP(assert(settling == 0); settling = ME; n = jlen[i]);
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
    STEP(r = ((owner & 127) == ID(i)));
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
    settling = 0;
    goto settled;

    /* --- a newcomer: settle_dead and take_slot under the rescue byte; a free slot first, then a dead worker's --- */
attach:
    STEP(rescue_byte == 0 -> rescue_byte = ME);
    slot = N;                       /* none: settle_dead passes over no slot */
    goto scan;
look:
    if
    :: i == N -> i = 0; pass++; assert(pass < 2)    /* as many slots as workers */
    :: else
    fi;
    STEP(r = (state[i] == pass));
    if
    :: r -> STEP(if :: live[i] == 0 -> live[i] = ME :: else -> r = 0 fi)
    :: else
    fi;
    if
    :: r == 0 -> i++; goto look
    :: else -> r = 0
    fi;
    slot = i;
#ifdef M_GEN_FIRST
    STEP(gen[i]++);
#endif
    if
    :: pass == 1 -> pass = 2; goto settle
    :: else
    fi;
enter:
    pass = 0;
    i = 0;
#ifndef M_GEN_FIRST
    STEP(gen[slot]++);
#endif
    STEP(state[slot] = 1);
    id = ID(slot);
    rounds = 1;
    STEP(rescue_byte = 0);
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
