/* Pages that cannot be read in: the file under a mapping was cut short, or its disk failed.
 *
 * The kernel says so with SIGBUS. The handler acts on two kinds of address only: those of the access
 * that this thread is making inside the library, and those of regions under a guard. It puts a
 * private page of zeros there, counts it in the region's record, and returns; the region refuses all
 * use from then on. SIGSEGV inside an access of the library means that another thread changed
 * the protection after the check: the access is left with a typed failure. Every other signal goes on to the
 * handler that was there before. */

#include "guard.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

MMW_THREAD_LOCAL mmw_access *mmw_current_access;
_Atomic int mmw_guard_installed;
_Atomic uint64_t mmw_fork_count = 1;

static const int guarded_signals[] = {SIGBUS, SIGSEGV};
#define GUARDED_SIGNALS (sizeof guarded_signals / sizeof guarded_signals[0])

/* What our handler displaced, at first and most recently. They differ when somebody who had
 * displaced us is displaced in turn: then `latest` may lead back here, and `first` ends it. */
typedef struct {
    struct sigaction first, latest;
} displaced_handlers;

static displaced_handlers displaced[GUARDED_SIGNALS];
/* The handler that this thread is forwarding a signal to. */
static MMW_THREAD_LOCAL void (*forwarding_to)(int);

/* Serialises whoever changes a list of records with the fault handler, which reads one. A spinning
 * lock, because the handler may be interrupted by nothing (its signal mask is full) and may wait for
 * no mutex. */
static atomic_flag records_lock = ATOMIC_FLAG_INIT;
static mmw_pages *guarded;

void mmw_lock_records(void)
{
    while (atomic_flag_test_and_set_explicit(&records_lock, memory_order_acquire)) sched_yield();
}

void mmw_unlock_records(void) { atomic_flag_clear_explicit(&records_lock, memory_order_release); }

static void after_fork_in_child(void)
{
    atomic_fetch_add(&mmw_fork_count, 1);
    mmw_unlock_records();
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(mmw_lock_records, mmw_unlock_records, after_fork_in_child);
}

static bool covers(mmw_pages *pages, const char *address)
{
    return !mmw_is_gone(pages) && address >= pages->mapped &&
           (uint64_t)(address - pages->mapped) < pages->mapped_size;
}

/* Whether the page is counted already, and marks it. Without memory to remember it in, it is not. */
static bool is_counted(mmw_pages *pages, uint64_t index)
{
    if (pages->fault_bitmap == NULL) {
        uint64_t bitmap_size = pages->mapped_size / mmw_page_size / 8 + sizeof(uint64_t);
        void *bitmap = mmap(NULL, bitmap_size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (bitmap == MAP_FAILED) return false;
        pages->fault_bitmap = bitmap;
    }
    uint64_t *word = &pages->fault_bitmap[index / 64], bit = UINT64_C(1) << (index % 64);
    bool was_marked = (*word & bit) != 0;
    *word |= bit;
    return was_marked;
}

static void count_page(mmw_pages *pages, uint64_t index)
{
    if (is_counted(pages, index)) return;
    const char *page = pages->mapped + index * pages->unit;
    uint64_t offset = page < pages->base ? 0 : (uint64_t)(page - pages->base);
    if (atomic_load(&pages->fault_pages) == 0 || offset < pages->fault_offset)
        pages->fault_offset = offset;
    atomic_fetch_add(&pages->fault_pages, 1);
}

static bool put_zeros(char *start, uint64_t length, int fixed)
{
    return mmap(start, length, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0) == start;
}

/* Where the process has one mapping too many, as the kernel lets happen, one of them has to go before
 * anything can be mapped. What may move in meanwhile is not ours. */
static bool make_room(mmw_pages *pages)
{
    if (munmap(pages->mapped, pages->mapped_size) != 0) return false;
    if (put_zeros(pages->mapped, pages->mapped_size, MAP_FIXED_NOREPLACE)) return true;
    pages->is_borrowed = true;
    return false;
}

/* Counts the page at the address and puts a private one of zeros there. In the middle of a region that
 * takes two mappings more, and the process may have no more: then zeros take the place of all of the
 * region, which nobody can use any more but through old views. The lock is held.
 * `is_last_resort`: failing is the end of the process. */
static bool replace_page(mmw_pages *pages, const char *address, bool is_last_resort)
{
    uint64_t index = (uint64_t)(address - pages->mapped) / pages->unit;
    count_page(pages, index);
    /* SAFETY: covers() held: the page is one of the region's, which the access or the guard keeps. */
    if (put_zeros(pages->mapped + index * pages->unit, pages->unit, MAP_FIXED)) return true;
    if (pages->is_borrowed) return false;
    return put_zeros(pages->mapped, pages->mapped_size, MAP_FIXED) ||
           (is_last_resort && make_room(pages));
}

static bool repair(mmw_access *access, const char *address)
{
    mmw_pages *pages = NULL;
    mmw_lock_records();
    if (access != NULL && covers(access->pages, address)) {
        pages = access->pages;
    } else if (access != NULL && access->partner != NULL && covers(access->partner, address)) {
        pages = access->partner;
    } else {
        for (pages = guarded; pages != NULL && !covers(pages, address);) pages = pages->guard_next;
    }
    bool is_last_resort = access == NULL;
    bool repaired = pages != NULL && replace_page(pages, address, is_last_resort);
    mmw_unlock_records();
    return repaired;
}

static bool is_in_buffer(const mmw_access *access, const char *address)
{
    return address >= access->buffer && (uint64_t)(address - access->buffer) < access->buffer_size;
}

/* Leaves the access that the address belongs to; returns if it belongs to none. */
static void leave_access(int signal_number, mmw_access *access, const char *address,
                         const ucontext_t *context)
{
    if (covers(access->pages, address)) {
        access->failure =
            signal_number == SIGBUS
                ? MMW_REFUSED(MMW_FAULTED)
                : MMW_REFUSED(access->need & PROT_WRITE ? MMW_NOT_WRITABLE : MMW_NOT_READABLE);
    } else if (is_in_buffer(access, address) ||
               (access->partner != NULL && covers(access->partner, address))) {
        access->failure = MMW_FAILED_WITH(MMW_CALL_MEMCPY, EFAULT);
    } else {
        return;
    }
    pthread_sigmask(SIG_SETMASK, &context->uc_sigmask, NULL);
    siglongjmp(access->leave, 1);
}

/* Ends as the process would have ended without us, for want of another handler. */
static void take_default(int signal_number, bool is_fault)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signal_number, &action, NULL);
    /* A fault comes again as we return; a signal that somebody sent does not. */
    if (!is_fault) raise(signal_number);
}

static void forward(int signal_number, siginfo_t *info, ucontext_t *context)
{
    bool is_fault = info->si_code > 0;
    displaced_handlers *handlers = &displaced[signal_number == SIGBUS ? 0 : 1];
    struct sigaction next = forwarding_to != NULL ? handlers->first : handlers->latest;
    /* What comes back from a handler is not for it again. */
    if (forwarding_to != NULL && next.sa_handler == forwarding_to) next.sa_handler = SIG_DFL;
    if (next.sa_handler == SIG_IGN && !is_fault) return;
    if (next.sa_handler == SIG_DFL || next.sa_handler == SIG_IGN) {
        take_default(signal_number, is_fault);
        return;
    }
    if (next.sa_flags & (int)SA_RESETHAND) {
        handlers->latest = handlers->first = (struct sigaction){.sa_handler = SIG_DFL};
    }
    sigset_t mask = context->uc_sigmask;
    sigorset(&mask, &context->uc_sigmask, &next.sa_mask);
    if (!(next.sa_flags & SA_NODEFER)) sigaddset(&mask, signal_number);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);

    void (*was_forwarding_to)(int) = forwarding_to;
    forwarding_to = next.sa_handler;
    if (next.sa_flags & SA_SIGINFO)
        next.sa_sigaction(signal_number, info, context);
    else
        next.sa_handler(signal_number);
    forwarding_to = was_forwarding_to;
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    mmw_access *access = mmw_current_access;
    if (info->si_code > 0) {
        const char *address = info->si_addr;
        /* A page of zeros is as misaligned as what was there. */
        bool is_lost = signal_number == SIGBUS && info->si_code != BUS_ADRALN;
        if (is_lost && repair(access, address)) {
            errno = saved_errno;
            return;
        }
        if (access != NULL) leave_access(signal_number, access, address, context);
    } else if (info->si_code == SI_TKILL && info->si_pid == getpid() &&
               forwarding_to == NULL && (access != NULL || guarded != NULL)) {
        /* Another handler on top of ours (faulthandler, enabled later) took a fault, put ours back
         * and raised the signal anew: what faulted is tried again, and faults into us. Not so where
         * we had passed the fault on to it: then it is nobody's here. */
        errno = saved_errno;
        return;
    }
    forward(signal_number, info, context);
    errno = saved_errno;
}

bool mmw_guard_is_on_top(int signal_number)
{
    struct sigaction current;
    return mmw_guard_installed && sigaction(signal_number, NULL, &current) == 0 &&
           current.sa_sigaction == on_signal;
}

int64_t mmw_guard_install(void)
{
    int64_t failure = 0;
    mmw_lock_records();
    for (size_t i = 0; i < GUARDED_SIGNALS && !failure; i++) {
        struct sigaction current, ours = {.sa_sigaction = on_signal,
                                          .sa_flags = SA_SIGINFO | SA_ONSTACK};
        sigfillset(&ours.sa_mask);
        if (sigaction(guarded_signals[i], NULL, &current) != 0) {
            failure = MMW_FAILED(MMW_CALL_SIGACTION);
        } else if (current.sa_sigaction != on_signal) {
            /* What restarts system calls, or lets them alone, goes on doing so. */
            ours.sa_flags |= current.sa_handler == SIG_IGN ? SA_RESTART : current.sa_flags & SA_RESTART;
            if (!mmw_guard_installed) displaced[i].first = current;
            displaced[i].latest = current;
            if (sigaction(guarded_signals[i], &ours, NULL) != 0)
                failure = MMW_FAILED(MMW_CALL_SIGACTION);
        }
    }
    if (!failure) mmw_guard_installed = 1;
    mmw_unlock_records();
    return failure;
}

static void unlink_guarded(mmw_pages *pages)
{
    if (pages->guard_previous != NULL)
        pages->guard_previous->guard_next = pages->guard_next;
    else
        guarded = pages->guard_next;
    if (pages->guard_next != NULL) pages->guard_next->guard_previous = pages->guard_previous;
}

int64_t mmw_guard_enter(mmw_pages *pages)
{
    int64_t refused = mmw_check(pages, 0, 0);
    if (!refused && !mmw_guard_is_on_top(SIGBUS)) refused = mmw_guard_install();
    if (refused) return refused;
    mmw_lock_records();
    if (pages->guards++ == 0) {
        pages->guard_previous = NULL;
        pages->guard_next = guarded;
        if (guarded != NULL) guarded->guard_previous = pages;
        guarded = pages;
    }
    mmw_unlock_records();
    return 0;
}

/* Once it returns, no handler is at work on the region for this guard's sake. */
int64_t mmw_guard_leave(mmw_pages *pages)
{
    if (pages == NULL) return MMW_REFUSED(MMW_CLOSED);
    mmw_lock_records();
    if (pages->guards > 0 && --pages->guards == 0) unlink_guarded(pages);
    mmw_unlock_records();
    return pages->fault_pages != 0 ? MMW_REFUSED(MMW_FAULTED) : 0;
}

void mmw_guard_forget(mmw_pages *pages)
{
    mmw_lock_records();
    if (pages->guards > 0) unlink_guarded(pages);
    mmw_unlock_records();
}

uint64_t mmw_fault_offset(mmw_pages *pages) { return atomic_load(&pages->fault_offset); }

uint64_t mmw_fault_pages(mmw_pages *pages) { return pages->fault_pages; }
