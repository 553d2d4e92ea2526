/* The lock around lists of records, and the count of forks.
 *
 * The fault handler reads the list of guarded regions while threads change it. The lock spins,
 * because a signal handler may wait for no mutex; nothing interrupts its holder in the handler,
 * whose signal mask is full.
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

static atomic_flag records_lock = ATOMIC_FLAG_INIT;

void mmw_lock_records(void)
{
    while (atomic_flag_test_and_set_explicit(&records_lock, memory_order_acquire)) sched_yield();
}

void mmw_unlock_records(void) { atomic_flag_clear_explicit(&records_lock, memory_order_release); }

static void after_fork_in_child(void)
{
    mmw_forking_thread = (unsigned long)pthread_self();
    atomic_fetch_add(&mmw_fork_count, 1);
    mmw_unlock_records(); /* no thread of the child holds it */
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork_in_child);
}
