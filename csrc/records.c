/* The lock around lists of records, and the count of forks.
 *
 * The fault handler reads the list of guarded regions while threads change it. The lock spins,
 * because a signal handler may wait for no mutex. A thread may enter it again: another library's
 * signal handler may come while the thread holds it, and touch a view whose page is missing. What
 * it finds half done is what a child may find, below.
 *
 * A fork does not take the lock: another library's fork handler may wait for a thread of its own
 * that needs the lock in the fault handler. So a child may find a list as it was between two steps
 * of a thread that it does not have. Each change of a list is ordered such that a child can go on
 * from there (MMW_NEXT_STEP is between the steps), and guard.c mends its list in the child. */

#include "pages.h"

#include <pthread.h>
#include <sched.h>

_Atomic uint64_t mmw_fork_count = 1;
unsigned long mmw_forking_thread;

static _Atomic unsigned long holder; /* 0: nobody */
static volatile unsigned nested;     /* how often the holder has entered again */

void mmw_lock_records(void)
{
    unsigned long self = (unsigned long)pthread_self(), nobody = 0;
    if (atomic_load_explicit(&holder, memory_order_relaxed) == self) {
        nested++;
        return;
    }
    while (!atomic_compare_exchange_strong_explicit(&holder, &nobody, self, memory_order_acquire,
                                                    memory_order_relaxed)) {
        nobody = 0;
        sched_yield();
    }
}

void mmw_unlock_records(void)
{
    if (nested > 0)
        nested--;
    else
        atomic_store_explicit(&holder, 0, memory_order_release);
}

static void after_fork_in_child(void)
{
    mmw_forking_thread = (unsigned long)pthread_self();
    atomic_fetch_add(&mmw_fork_count, 1);
    nested = 0;
    mmw_unlock_records(); /* no thread of the child holds it */
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}
