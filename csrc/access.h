/* A guarded access: memory is touched, and a page that is missing there ends this one call.
 *
 * A helper starts an access with MMW_ACCESS, touches the memory and ends with mmw_access_end. The
 * access is known to the signal handler (faults.c) as long as it lasts. When the kernel sends
 * SIGBUS or SIGSEGV for an address of the access, the handler writes the failure into the access
 * and jumps back to MMW_ACCESS, which returns it. Nothing is put into the mapping: the next call
 * works where the file has grown again. */

#ifndef MMAPWRAP_ACCESS_H
#define MMAPWRAP_ACCESS_H

#include <setjmp.h>
#include <signal.h>
#include <time.h>

#include "pages.h"

/* One copying call of the library, for as long as it touches memory. */
typedef struct mmw_access {
    mmw_pages *pages;
    mmw_pages *partner; /* the other region of a copy between two, NULL if there is none */
    const char *buffer; /* the caller's side of the copy, NULL if there is none */
    uint64_t buffer_size;
    volatile int64_t failure; /* what the call returns after a jump out */
    int need;
    sigjmp_buf leave;
} mmw_access;

/* In glibc a thread's first use of a module's dynamic thread-local storage may allocate, which a
 * signal handler must not; the initial-exec model is allocated with the thread. */
#ifdef __GLIBC__
#define MMW_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define MMW_THREAD_LOCAL _Thread_local
#endif

extern MMW_THREAD_LOCAL mmw_access *mmw_current_access;

/* Whether the handlers were ever installed, and when the kernel was last asked about them. */
extern _Atomic int mmw_handlers_installed;
extern _Atomic int64_t mmw_handlers_asked_at;

/* Installs the handlers, or puts them back on top where something replaced them. */
int64_t mmw_handlers_install(void);

/* The same, if that of SIGBUS is not on top now. */
int64_t mmw_handlers_require(void);

/* The time in ticks of the kernel's coarse clock, of 1 to 10 ms. Reading it is no system call. */
static inline int64_t mmw_coarse_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Asking the kernel for the handlers in place takes longer than a small access: once a tick. */
static inline int64_t mmw_check_handlers(void)
{
    int64_t now = mmw_coarse_time();
    if (now == atomic_load_explicit(&mmw_handlers_asked_at, memory_order_relaxed)) return 0;
    int64_t failure = mmw_handlers_install();
    if (!failure) atomic_store_explicit(&mmw_handlers_asked_at, now, memory_order_relaxed);
    return failure;
}

static inline int64_t mmw_access_begin(mmw_access *access, mmw_pages *pages, mmw_pages *partner,
                                       int need, const char *buffer, uint64_t buffer_size)
{
    int64_t failure = mmw_check_handlers();
    if (failure) return failure;
    access->pages = pages;
    access->partner = partner;
    access->buffer = buffer;
    access->buffer_size = buffer == NULL ? 0 : buffer_size;
    access->need = need;
    mmw_current_access = access;
    atomic_signal_fence(memory_order_seq_cst);
    return 0;
}

/* A guard may have put zeros there meanwhile, in another thread. */
static inline int64_t mmw_access_end(mmw_access *access, int64_t result)
{
    atomic_signal_fence(memory_order_seq_cst);
    mmw_current_access = NULL;
    if (atomic_load_explicit(&access->pages->fault_pages, memory_order_relaxed) != 0)
        return MMW_REFUSED(MMW_FAULTED);
    if (access->partner != NULL && access->partner->fault_pages != 0)
        return MMW_PARTNER_FAULTED_AT(access->partner->fault_offset);
    return result;
}

/* Starts a guarded access in a helper that returns int64_t: everything up to mmw_access_end may
 * touch the range that was checked, and the buffer or the partner's range. A macro,
 * because the frame that calls sigsetjmp must outlive the access. */
#define MMW_ACCESS_WITH(access, pages, partner, need, buffer, buffer_size)                         \
    do {                                                                                           \
        int64_t mmw_refused = mmw_access_begin(access, pages, partner, need, buffer, buffer_size); \
        if (mmw_refused) return mmw_refused;                                                       \
        if (sigsetjmp((access)->leave, 0) != 0) {                                                  \
            mmw_current_access = NULL;                                                             \
            return (access)->failure;                                                              \
        }                                                                                          \
    } while (0)

/* A loop inside an access. In a function that calls sigsetjmp what is local stays out of registers.
 */
#define MMW_WORK __attribute__((noinline)) static

/* With a buffer, or none (NULL), of this size. */
#define MMW_ACCESS(access, pages, need, buffer, size)                                              \
    MMW_ACCESS_WITH(access, pages, NULL, need, buffer, size)

/* With the range of another region, which has been checked too. */
#define MMW_ACCESS_BOTH(access, pages, need, other)                                                \
    MMW_ACCESS_WITH(access, pages, other, need, NULL, 0)

#endif
