# Owns the only C of the package: atomic loads, stores, compare-and-swap, fences, pause; and what
# keeps threads of one process apart where the interpreter has no lock that does (the last part).
#
# `barrier` stops the compiler alone. That is enough between a journal entry and the store it
# covers: a killed process has executed a prefix of its program, and all stores of that prefix
# reach memory. Ordering towards other processes is bought with acquire and release.

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define shm_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define shm_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define shm_set(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define shm_set_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define shm_load_byte(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define shm_set_byte(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    #define shm_swap(p, v) __atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST)
    #define shm_and(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)
    #define shm_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
    #define shm_or(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
    #define shm_cas(p, e, d) ({ uint64_t e_ = (e); __atomic_compare_exchange_n((p), &e_, (d), \
            0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED); })
    #define shm_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)
    #define shm_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
    #define shm_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
    #define shm_fence_full() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define shm_ctz(x) __builtin_ctzll(x)
    #define shm_clz(x) __builtin_clzll(x)
    #define shm_popcount(x) __builtin_popcountll(x)
    /* gcc takes a function that only prefetches for one without effect, and drops the call: hence the asm. */
    #define shm_prefetch(p) ({ const void *p_ = (p); __builtin_prefetch(p_); __asm__ __volatile__("" :: "r"(p_)); })
    #define shm_likely(x) __builtin_expect(!!(x), 1)
    #define shm_unlikely(x) __builtin_expect(!!(x), 0)
    /* Which thread this is, in one instruction where the compiler can say it so. */
    #include <pthread.h>
    #if defined(__has_builtin)
    #if __has_builtin(__builtin_thread_pointer)
    #define shm_this_thread() ((uint64_t)(uintptr_t)__builtin_thread_pointer())
    #endif
    #endif
    #ifndef shm_this_thread
    #define shm_this_thread() ((uint64_t)(uintptr_t)pthread_self())
    #endif
    #if defined(__x86_64__) || defined(__i386__)
    #define shm_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__)
    #define shm_pause() __asm__ __volatile__("yield")
    #else
    #define shm_pause() ((void)0)
    #endif
    /* Words and locks of this process alone, which its threads share. With the GIL none of them can be
       interrupted by another thread: then these are the plain loads and stores that they look like, and
       no locks. */
    #ifdef Py_GIL_DISABLED
    typedef PyMutex shm_mutex;
    #define shm_mutex_lock(m) PyMutex_Lock(m)
    #define shm_mutex_unlock(m) PyMutex_Unlock(m)
    #define shm_mutex_forget(m) memset((m), 0, sizeof(shm_mutex))
    #define shm_glance(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define shm_claim(p, v) shm_cas((p), 0, (v))
    #define shm_yield(p, v) shm_cas((p), (v), 0)
    #define SHM_FREE_THREADED 1
    #else
    typedef struct {} shm_mutex;
    #define shm_mutex_lock(m) ((void)(m))
    #define shm_mutex_unlock(m) ((void)(m))
    #define shm_mutex_forget(m) ((void)(m))
    #define shm_glance(p) (*(p))
    #define shm_claim(p, v) (*(p) == 0 ? (*(p) = (v), 1) : 0)
    #define shm_yield(p, v) (*(p) = 0, 1)
    #define SHM_FREE_THREADED 0
    #endif
    """
    uint64_t load "shm_load"(uint64_t *p) noexcept nogil
    uint64_t load_acquire "shm_load_acquire"(uint64_t *p) noexcept nogil
    void set "shm_set"(uint64_t *p, uint64_t v) noexcept nogil
    void set_release "shm_set_release"(uint64_t *p, uint64_t v) noexcept nogil
    unsigned char load_byte "shm_load_byte"(unsigned char *p) noexcept nogil
    void set_byte "shm_set_byte"(unsigned char *p, unsigned char v) noexcept nogil
    uint64_t swap "shm_swap"(uint64_t *p, uint64_t v) noexcept nogil
    uint64_t add "shm_add"(uint64_t *p, uint64_t v) noexcept nogil
    uint64_t set_bits "shm_or"(uint64_t *p, uint64_t v) noexcept nogil
    uint64_t keep_bits "shm_and"(uint64_t *p, uint64_t v) noexcept nogil
    bint cas "shm_cas"(uint64_t *p, uint64_t expected, uint64_t desired) noexcept nogil
    void barrier "shm_barrier"() noexcept nogil
    void fence_acquire "shm_fence_acquire"() noexcept nogil
    void fence_release "shm_fence_release"() noexcept nogil
    void fence_full "shm_fence_full"() noexcept nogil
    int ctz "shm_ctz"(uint64_t x) noexcept nogil
    int clz "shm_clz"(uint64_t x) noexcept nogil
    int popcount "shm_popcount"(uint64_t x) noexcept nogil
    void prefetch "shm_prefetch"(const void *p) noexcept nogil
    bint likely "shm_likely"(bint x) noexcept nogil
    bint unlikely "shm_unlikely"(bint x) noexcept nogil
    void pause "shm_pause"() noexcept nogil
    uint64_t this_thread "shm_this_thread"() noexcept nogil

    # Held for a few instructions, in which no Python runs and nothing waits: so a thread that waits
    # for one (it lets go of the interpreter meanwhile) waits for as long, and a fork by Python, which
    # stops all threads first, finds it free. `mutex_forget`: in a forked child, of one that a thread
    # of the parent may have.
    ctypedef struct Mutex "shm_mutex":
        pass
    void mutex_lock "shm_mutex_lock"(Mutex *m) noexcept nogil
    void mutex_unlock "shm_mutex_unlock"(Mutex *m) noexcept nogil
    void mutex_forget "shm_mutex_forget"(Mutex *m) noexcept nogil
    # A look at a word that another thread may be changing.
    uint64_t glance "shm_glance"(uint64_t *p) noexcept nogil
    # Put `v` where 0 is, and 0 where `v` is: True if it was there.
    bint claim "shm_claim"(uint64_t *p, uint64_t v) noexcept nogil
    bint give_up "shm_yield"(uint64_t *p, uint64_t v) noexcept nogil
    bint FREE_THREADED "SHM_FREE_THREADED"
