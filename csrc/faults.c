/* The handlers of SIGBUS and SIGSEGV.
 *
 * The kernel sends SIGBUS when a page cannot be read in: the file ends before it, its device is
 * full or has failed. It sends SIGSEGV when the access is not allowed, which happens to an access
 * of the library only if another thread takes the access away after the check. Our handler knows
 * two kinds of address:
 *
 *   1. An address of the access that this thread is making inside the library (access.h). The
 *      handler writes down the failure and jumps out of the access. Nothing else changes.
 *   2. SIGBUS at an address of a region under a guard (guard.c). The handler puts a page of zeros
 *      there and returns, and the instruction that faulted runs again.
 *
 * Every other signal belongs to somebody else and is forwarded: the handler that ours displaced is
 * called as the kernel would call it, with its mask.
 *
 * Chains of handlers. Another library may install its handler on top of ours (faulthandler does).
 * Then ours is not asked first any more, so the next access puts ours back on top. Now there are
 * two places at which we stand in the chain: on top of theirs, and below theirs, because theirs
 * remembers ours as the handler to call for what it does not know. If one function stood at both
 * places it could not tell whether to forward to theirs or to what was there before all of us, and
 * the two handlers would call each other for ever. So each place in the chain has a function of
 * its own: entry 0 was installed first and forwards to what it found then, entry 1 was installed
 * on top of the next handler and forwards to that, and so on. An entry forwards to what it
 * displaced and to nothing else, so a signal only ever moves down the chain, however the others
 * are linked. No entry remembers that it is forwarding: a handler may leave by siglongjmp, and the
 * next signal finds everything as the first one did.
 *
 * A handler that is on top again at the same place takes the same entry. After ENTRIES different
 * handlers on top of each other the library stays where it is in the chain.
 *
 * faulthandler, while it is on top, first prints a traceback, then restores the handler below it
 * and raises the signal anew, which arrives as SI_TKILL from this thread and with no address.
 * If an access or a guard is active, ours returns from it: the instruction that faulted runs again
 * and faults into ours, with its address. If the fault was nobody's, it comes back as a fault as
 * well and is forwarded. A SIGBUS or SIGSEGV that a program raises for itself in such a moment
 * looks the same and is lost. */

#include "access.h"
#include "guard.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

MMW_THREAD_LOCAL mmw_access *mmw_current_access;
_Atomic int mmw_handlers_installed;
_Atomic int64_t mmw_handlers_asked_at;

#define ENTRIES 16

enum { BUS, SEGMENTATION, SIGNALS };
static const int signal_numbers[SIGNALS] = {SIGBUS, SIGSEGV};

/* What each entry displaced, and the highest entry in use; -1: none. */
static struct sigaction displaced[SIGNALS][ENTRIES];
static int top_entry[SIGNALS] = {-1, -1};

static bool is_in_buffer(const mmw_access *access, const char *address)
{
    return address >= access->buffer && (uint64_t)(address - access->buffer) < access->buffer_size;
}

static int64_t protection_failure(const mmw_access *access)
{
    return MMW_REFUSED(access->need & PROT_WRITE ? MMW_NOT_WRITABLE : MMW_NOT_READABLE);
}

/* What the access fails with because of this address; 0 where the address is not of the access. */
static int64_t failure_of(int signal_number, const mmw_access *access, const char *address)
{
    bool is_missing = signal_number == SIGBUS;
    if (mmw_covers(access->pages, address)) {
        return is_missing ? MMW_FAULTED_AT(mmw_offset_of_page(access->pages, address))
                          : protection_failure(access);
    }
    if (access->partner != NULL && mmw_covers(access->partner, address)) {
        return is_missing ? MMW_PARTNER_FAULTED_AT(mmw_offset_of_page(access->partner, address))
                          : MMW_FAILED_WITH(MMW_CALL_MEMCPY, EFAULT);
    }
    return is_in_buffer(access, address) ? MMW_FAILED_WITH(MMW_CALL_MEMCPY, EFAULT) : 0;
}

static _Noreturn void leave_access(mmw_access *access, int64_t failure, const ucontext_t *context)
{
    access->failure = failure;
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

/* Whether an instruction of this thread has met the address, and would meet it again. BUS_MCEERR_AO
 * only tells that some page has failed. */
static bool is_of_instruction(int signal_number, const siginfo_t *info)
{
    return info->si_code > 0 && !(signal_number == SIGBUS && info->si_code == BUS_MCEERR_AO);
}

static void forward(int signal_number, siginfo_t *info, ucontext_t *context,
                    struct sigaction *below)
{
    bool is_fault = is_of_instruction(signal_number, info);
    struct sigaction next = *below;
    if (next.sa_handler == SIG_IGN && !is_fault) return;
    if (next.sa_handler == SIG_DFL || next.sa_handler == SIG_IGN) {
        take_default(signal_number, is_fault);
        return;
    }
    if (next.sa_flags & (int)SA_RESETHAND) *below = (struct sigaction){.sa_handler = SIG_DFL};
    sigset_t mask = context->uc_sigmask;
    sigorset(&mask, &context->uc_sigmask, &next.sa_mask);
    if (!(next.sa_flags & SA_NODEFER)) sigaddset(&mask, signal_number);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    if (next.sa_flags & SA_SIGINFO)
        next.sa_sigaction(signal_number, info, context);
    else
        next.sa_handler(signal_number);
}

static void on_signal(int entry, int signal_number, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    mmw_access *access = mmw_current_access;
    bool is_raised_again = info->si_code == SI_TKILL && info->si_pid == getpid();
    if (is_of_instruction(signal_number, info)) {
        const char *address = info->si_addr;
        int64_t failure = access == NULL ? 0 : failure_of(signal_number, access, address);
        bool is_own = failure != 0 && !is_in_buffer(access, address);
        /* A page of zeros is as misaligned as what was there. */
        bool is_lost = signal_number == SIGBUS && info->si_code != BUS_ADRALN;
        if (!is_own && is_lost && mmw_guard_repair(address)) {
            errno = saved_errno;
            return;
        }
        if (failure != 0) leave_access(access, failure, context);
    } else if (is_raised_again && (access != NULL || mmw_guard_is_active())) {
        errno = saved_errno;
        return;
    }
    int index = signal_number == SIGBUS ? BUS : SEGMENTATION;
    forward(signal_number, info, context, &displaced[index][entry]);
    errno = saved_errno;
}

#define ENTRY(number)                                                                              \
    static void entry_##number(int signal, siginfo_t *info, void *context)                         \
    {                                                                                              \
        on_signal(number, signal, info, context);                                                  \
    }
/* clang-format off */
ENTRY(0) ENTRY(1) ENTRY(2) ENTRY(3) ENTRY(4) ENTRY(5) ENTRY(6) ENTRY(7)
ENTRY(8) ENTRY(9) ENTRY(10) ENTRY(11) ENTRY(12) ENTRY(13) ENTRY(14) ENTRY(15)

static void (*const entries[ENTRIES])(int, siginfo_t *, void *) = {
    entry_0, entry_1, entry_2,  entry_3,  entry_4,  entry_5,  entry_6,  entry_7,
    entry_8, entry_9, entry_10, entry_11, entry_12, entry_13, entry_14, entry_15,
};
/* clang-format on */

static int entry_of(const struct sigaction *action)
{
    int entry = ENTRIES - 1;
    while (entry >= 0 && action->sa_sigaction != entries[entry]) entry--;
    return entry;
}

/* The entry that goes on top of a handler; ENTRIES where none is left. */
static int entry_above(int index, const struct sigaction *other)
{
    int top = top_entry[index];
    bool is_known = top >= 0 && displaced[index][top].sa_sigaction == other->sa_sigaction;
    return is_known ? top : top + 1;
}

static int64_t install(int index)
{
    struct sigaction current;
    if (sigaction(signal_numbers[index], NULL, &current) != 0)
        return MMW_FAILED(MMW_CALL_SIGACTION);
    int entry = entry_of(&current);
    if (entry >= 0) {
        top_entry[index] = entry; /* whoever was on top of it has gone */
        return 0;
    }
    entry = entry_above(index, &current);
    if (entry == ENTRIES) return 0;
    struct sigaction ours = {.sa_sigaction = entries[entry], .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&ours.sa_mask);
    /* A handler that restarts system calls, or interrupts them, goes on doing so. */
    ours.sa_flags |= current.sa_handler == SIG_IGN ? SA_RESTART : current.sa_flags & SA_RESTART;
    displaced[index][entry] = current;
    struct sigaction replaced;
    if (sigaction(signal_numbers[index], &ours, &replaced) != 0)
        return MMW_FAILED(MMW_CALL_SIGACTION);
    /* Another thread may have installed one more since the handler was asked for. */
    if (entry_of(&replaced) < 0) displaced[index][entry] = replaced;
    top_entry[index] = entry;
    return 0;
}

int64_t mmw_handlers_require(void)
{
    struct sigaction current;
    bool is_on_top = atomic_load(&mmw_handlers_installed) &&
                     sigaction(SIGBUS, NULL, &current) == 0 && entry_of(&current) >= 0;
    return is_on_top ? 0 : mmw_handlers_install();
}

/* Not the lock of the records: accesses to all regions come here once a tick, and the recovery of
 * one region may hold that one for long. */
static atomic_flag handlers_lock = ATOMIC_FLAG_INIT;

static void unlock_handlers(void)
{
    atomic_flag_clear_explicit(&handlers_lock, memory_order_release);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, unlock_handlers); /* no thread of the child holds it */
}

int64_t mmw_handlers_install(void)
{
    while (atomic_flag_test_and_set_explicit(&handlers_lock, memory_order_acquire)) sched_yield();
    int64_t failure = install(BUS);
    if (!failure) failure = install(SEGMENTATION);
    if (!failure) atomic_store(&mmw_handlers_installed, 1);
    unlock_handlers();
    return failure;
}
