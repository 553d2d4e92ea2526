/* The lock around lists of records, and the count of forks.
 *
 * The fault handler reads the list of guarded regions while threads change it. The lock spins,
 * because a signal handler may wait for no mutex; nothing interrupts its holder in the handler,
 * whose signal mask is full. */

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
    mmw_unlock_records();
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(mmw_lock_records, mmw_unlock_records, after_fork_in_child);
}
