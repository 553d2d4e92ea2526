/* Access to pages that may turn out not to be there. */

#ifndef MMAPWRAP_GUARD_H
#define MMAPWRAP_GUARD_H

#include <setjmp.h>
#include <signal.h>

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

/* Around every change of a list of records. */
void mmw_lock_records(void);
void mmw_unlock_records(void);

extern MMW_THREAD_LOCAL mmw_access *mmw_current_access;
extern _Atomic int mmw_guard_installed;

/* Puts the handlers in place, or back on top where something replaced them. */
int64_t mmw_guard_install(void);

/* Before a record goes: some guards are entered and never left. */
void mmw_guard_forget(mmw_pages *pages);

/* Asks the kernel, for somebody else may have installed a handler since. */
bool mmw_guard_is_on_top(int signal_number);

/* Anonymous memory is all there but where memory ran out, so a small access to it, and to nothing
 * of the caller's, does without the system call of asking. */
#define MMW_ASK_FROM 65536

static inline int64_t mmw_access_begin(mmw_access *access, mmw_pages *pages, mmw_pages *partner,
                                       int need, const char *buffer, uint64_t buffer_size,
                                       uint64_t size)
{
    bool asks = !(pages->flags & MAP_ANONYMOUS) || size >= MMW_ASK_FROM || buffer != NULL ||
                (partner != NULL && !(partner->flags & MAP_ANONYMOUS));
    if (asks ? !mmw_guard_is_on_top(SIGBUS) ||
                   (size >= MMW_ASK_FROM && !mmw_guard_is_on_top(SIGSEGV))
             : !atomic_load_explicit(&mmw_guard_installed, memory_order_relaxed)) {
        int64_t failure = mmw_guard_install();
        if (failure) return failure;
    }
    access->pages = pages;
    access->partner = partner;
    access->buffer = buffer;
    access->buffer_size = buffer == NULL ? 0 : buffer_size;
    access->need = need;
    mmw_current_access = access;
    atomic_signal_fence(memory_order_seq_cst);
    return 0;
}

static inline int64_t mmw_access_end(mmw_access *access, int64_t result)
{
    atomic_signal_fence(memory_order_seq_cst);
    mmw_current_access = NULL;
    if (atomic_load_explicit(&access->pages->fault_pages, memory_order_relaxed) != 0)
        return MMW_REFUSED(MMW_FAULTED);
    if (access->partner != NULL && access->partner->fault_pages != 0)
        return MMW_FAILED_WITH(MMW_CALL_MEMCPY, EFAULT);
    return result;
}

/* Starts a guarded access in a helper that returns int64_t: everything up to mmw_access_end may
 * touch the range that was checked, of so many bytes, and the buffer or the partner's range. A macro,
 * because the frame that calls sigsetjmp must outlive the access. */
#define MMW_ACCESS_WITH(access, pages, partner, need, buffer, buffer_size, size)                  \
    do {                                                                                          \
        int64_t mmw_refused =                                                                     \
            mmw_access_begin(access, pages, partner, need, buffer, buffer_size, size);            \
        if (mmw_refused) return mmw_refused;                                                      \
        if (sigsetjmp((access)->leave, 0) != 0) {                                                 \
            mmw_current_access = NULL;                                                            \
            return (access)->failure;                                                             \
        }                                                                                         \
    } while (0)

/* A loop inside an access. In a function that calls sigsetjmp what is local stays out of registers. */
#define MMW_WORK __attribute__((noinline)) static

/* A buffer, if there is one, as long as what is touched of the range. */
#define MMW_ACCESS(access, pages, need, buffer, size) \
    MMW_ACCESS_WITH(access, pages, NULL, need, buffer, size, size)

/* A copy between two regions, whose ranges have both been checked. */
#define MMW_ACCESS_BOTH(access, pages, need, other, size) \
    MMW_ACCESS_WITH(access, pages, other, need, NULL, 0, size)

#endif
