/* Guards: while one is entered, a page of its region that cannot be read in becomes zeros.
 *
 * The signal handler (faults.c) calls mmw_guard_repair. It counts the page in the record and
 * covers it with private zeros, after which the region refuses all use (MMW_FAULTED) until
 * mmw_recover. The page itself, which still is a page of its file with all that was set on it, is
 * first set aside: mremap with MREMAP_DONTUNMAP moves it to the same place in a reservation that is
 * as large as the region. mmw_recover moves it back.
 *
 * The handler must succeed where the process is at a limit, because failing ends the process.
 * For that each region that was ever guarded keeps a spare: a shared page of zeros. Where no
 * private page can be mapped (all memory is to be locked, and RLIMIT_MEMLOCK is used up), the
 * kernel still duplicates the spare, which it does not count again. Where the process has as many
 * mappings as vm.max_map_count allows, the spare is given up, which makes room for zeros in the
 * place of the whole region: to replace one page in its middle would take two mappings more. */

#include "guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#ifndef MREMAP_DONTUNMAP /* Linux 5.7, of files 5.13 */
#define MREMAP_DONTUNMAP 4
#endif

static mmw_pages *guarded;

bool mmw_guard_is_active(void) { return guarded != NULL; }

static uint64_t size_of_bitmap(const mmw_pages *pages)
{
    return pages->mapped_size / pages->page_size / 8 + sizeof(uint64_t);
}

static char *map_zeros(char *place, uint64_t size, int flags)
{
    char *mapped =
        mmap(place, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
    return mapped == MAP_FAILED ? NULL : mapped;
}

/* Room for the pages that are lost, reserved at the first of them. A child that is forked before it
 * is ready cannot recover. */
static void prepare_aside(mmw_pages *pages)
{
    pages->is_unrecoverable = true;
    MMW_NEXT_STEP();
    int64_t failure = 0;
    /* Huge pages want an address on one. */
    pages->aside = mmw_reserve_aligned(pages->mapped_size, pages->page_size, &failure);
    pages->lost = (uint64_t *)(void *)map_zeros(NULL, size_of_bitmap(pages), MAP_PRIVATE);
    MMW_NEXT_STEP();
    pages->is_unrecoverable = pages->lost == NULL || pages->aside == NULL;
}

static bool is_lost(const mmw_pages *pages, uint64_t index)
{
    return (pages->lost[index / 64] >> (index % 64) & 1) != 0;
}

/* In two steps, because mremap unmaps a fixed target before it may fail: the kernel first finds a
 * place of its own for the page, where a failure changes nothing. */
static void set_aside(mmw_pages *pages, uint64_t index)
{
    if (pages->is_unrecoverable) return;
    uint64_t start = index * pages->page_size, size = pages->page_size;
    char *place = pages->aside + start;
    char *page = mremap(pages->mapped + start, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    pages->is_unrecoverable = page == MAP_FAILED;
    if (page == MAP_FAILED ||
        mremap(page, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place)
        return;
    /* Nobody can tell whether the place is still reserved, so the reservation is left for good. */
    munmap(page, size);
    pages->is_unrecoverable = true;
    pages->aside = NULL;
}

/* The page is marked as lost when it is aside and counted, and gets its zeros afterwards: a child
 * that is forked in between has a page that is missing again, or recovers one more than it lost. */
static void count_lost_page(mmw_pages *pages, uint64_t index)
{
    if (pages->lost == NULL && !pages->is_unrecoverable) prepare_aside(pages);
    /* The zeros of a page may become missing as well. */
    if (pages->lost != NULL && is_lost(pages, index)) return;
    set_aside(pages, index);
    uint64_t offset = mmw_offset_of_page(pages, pages->mapped + index * pages->page_size);
    if (atomic_load(&pages->fault_pages) == 0 || offset < pages->fault_offset)
        pages->fault_offset = offset;
    atomic_fetch_add(&pages->fault_pages, 1);
    MMW_NEXT_STEP();
    if (pages->lost != NULL) pages->lost[index / 64] |= UINT64_C(1) << (index % 64);
    MMW_NEXT_STEP();
}

static bool duplicate_spare(const mmw_pages *pages, char *place)
{
    return pages->spare != NULL &&
           mremap(pages->spare, 0, pages->page_size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place;
}

/* The pointer goes first, also elsewhere in this file: a child that is forked in between must not
 * unmap what somebody else may have there by then. */
static void drop_spare(mmw_pages *pages)
{
    char *spare = pages->spare;
    pages->spare = NULL;
    MMW_NEXT_STEP();
    if (spare != NULL) munmap(spare, pages->page_size);
}

static bool replace_all(mmw_pages *pages)
{
    if (pages->is_borrowed) return false;
    pages->is_unrecoverable = true;
    drop_spare(pages);
    return map_zeros(pages->mapped, pages->mapped_size, MAP_PRIVATE | MAP_FIXED) != NULL;
}

/* The kernel does not cut a huge page that was placed into an arena of smaller ones. */
static bool replace_huge_page(mmw_pages *pages, const char *address)
{
    uint64_t size = atomic_load(&pages->largest_page);
    if (size == 0) return false;
    char *page = (char *)(uintptr_t)mmw_floor((uint64_t)(uintptr_t)address, size);
    if (page < pages->mapped || page + size > pages->mapped + pages->mapped_size) return false;
    pages->is_unrecoverable = true;
    return map_zeros(page, size, MAP_PRIVATE | MAP_FIXED) != NULL;
}

/* Whether a page that was lost has its zeros, because another thread met it first. They may have
 * been written to. */
static bool has_zeros(const mmw_pages *pages, char *page, uint64_t index)
{
    return pages->lost != NULL && is_lost(pages, index) &&
           madvise(page, pages->page_size, MADV_POPULATE_READ) == 0;
}

static bool replace_page(mmw_pages *pages, const char *address)
{
    uint64_t index = (uint64_t)(address - pages->mapped) / pages->page_size;
    char *page = pages->mapped + index * pages->page_size;
    if (has_zeros(pages, page, index)) return true;
    count_lost_page(pages, index);
    /* SAFETY: mmw_covers held: the page is one of the region's, which the guard keeps. */
    return map_zeros(page, pages->page_size, MAP_PRIVATE | MAP_FIXED) != NULL ||
           (errno == EINVAL && replace_huge_page(pages, address)) || duplicate_spare(pages, page) ||
           replace_all(pages);
}

bool mmw_guard_repair(const char *address)
{
    mmw_lock_records();
    mmw_pages *pages = guarded;
    while (pages != NULL && !mmw_covers(pages, address)) pages = pages->guard_next;
    bool is_repaired = pages != NULL && replace_page(pages, address);
    mmw_unlock_records();
    return is_repaired;
}

/* The list can be walked forward at every moment: one store puts a region on it or takes it out. */
void mmw_link_guarded(mmw_pages *pages)
{
    pages->guard_previous = NULL;
    pages->guard_next = guarded;
    pages->is_guarded = true;
    MMW_NEXT_STEP();
    guarded = pages;
    MMW_NEXT_STEP();
    if (pages->guard_next != NULL) pages->guard_next->guard_previous = pages;
}

void mmw_unlink_guarded(mmw_pages *pages)
{
    if (pages->guard_previous != NULL)
        pages->guard_previous->guard_next = pages->guard_next;
    else
        guarded = pages->guard_next;
    MMW_NEXT_STEP();
    if (pages->guard_next != NULL) pages->guard_next->guard_previous = pages->guard_previous;
    pages->is_guarded = false;
}

/* A region is on the list while it has guards. A thread that the child does not have may have been
 * between the two, or between the two directions of the list. */
static void mend_list(void)
{
    mmw_pages **link = &guarded, *previous = NULL;
    for (mmw_pages *pages = guarded; pages != NULL; pages = pages->guard_next) {
        if (pages->guards == 0) {
            pages->is_guarded = false;
            *link = pages->guard_next;
            continue;
        }
        pages->guard_previous = previous;
        previous = pages;
        link = &pages->guard_next;
    }
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, mend_list);
}

static void drop_aside(mmw_pages *pages)
{
    uint64_t *lost = pages->lost;
    char *aside = pages->aside;
    pages->lost = NULL;
    pages->aside = NULL;
    MMW_NEXT_STEP();
    if (lost != NULL) munmap(lost, size_of_bitmap(pages));
    if (aside != NULL) munmap(aside, pages->mapped_size);
}

void mmw_keep_spare(mmw_pages *pages)
{
    if (pages->spare == NULL) pages->spare = map_zeros(NULL, pages->page_size, MAP_SHARED);
}

void mmw_guard_forget(mmw_pages *pages)
{
    mmw_lock_records();
    if (pages->is_guarded) mmw_unlink_guarded(pages);
    mmw_unlock_records();
    if (!mmw_is_gone(pages)) drop_aside(pages);
    drop_spare(pages);
}

void mmw_guard_release(mmw_pages *pages)
{
    mmw_lock_records();
    pages->is_released = true;
    bool is_kept = pages->guards > 0;
    mmw_unlock_records();
    if (!is_kept) free(pages);
}

/* Moves a run of lost pages back; their places aside stay reserved. In two steps, as set_aside: the
 * first may fail and changes nothing then; the second only exchanges what is mapped. */
static int64_t move_back(mmw_pages *pages, uint64_t first, uint64_t last)
{
    uint64_t start = first * pages->page_size, length = (last - first) * pages->page_size;
    char *place = pages->mapped + start, *aside = pages->aside + start;
    char *moved = mremap(aside, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (moved == MAP_FAILED) return MMW_FAILED(MMW_CALL_MREMAP);
    /* SAFETY: the place is the region's own; set_aside has moved the same pages from there. */
    if (mremap(moved, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place) return 0;
    int64_t failure = MMW_FAILED(MMW_CALL_MREMAP);
    (void)map_zeros(place, length, MAP_PRIVATE | MAP_FIXED_NOREPLACE); /* if it was unmapped */
    if (mremap(moved, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, aside) != aside) {
        munmap(moved, length);
        pages->is_unrecoverable = true;
        pages->aside = NULL;
    }
    return failure;
}

static int64_t move_all_back(mmw_pages *pages)
{
    uint64_t end = pages->mapped_size / pages->page_size;
    for (uint64_t first = 0, last; first < end; first = last) {
        while (first < end && !is_lost(pages, first)) {
            first += first % 64 == 0 && pages->lost[first / 64] == 0 ? 64 : 1;
        }
        if (first >= end) break;
        for (last = first + 1; last < end && is_lost(pages, last);) last++;
        /* The pages of a run may have different protections: then they are not one mapping, and the
         * kernel moves them one by one only (EFAULT). */
        bool is_run = move_back(pages, first, last) == 0;
        for (uint64_t index = first; index < last; index++) {
            int64_t failure = is_run ? 0 : move_back(pages, index, index + 1);
            if (failure) return failure;
            /* What is back has content of its own, which a second attempt must not replace. */
            pages->lost[index / 64] &= ~(UINT64_C(1) << (index % 64));
        }
    }
    return 0;
}

/* A child that is forked on the way cannot recover: it does not know which pages are back. */
static int64_t recover(mmw_pages *pages)
{
    if (pages->is_unrecoverable) return MMW_REFUSED(MMW_UNRECOVERABLE);
    pages->is_unrecoverable = true;
    MMW_NEXT_STEP();
    int64_t failure = move_all_back(pages);
    if (failure) {
        pages->is_unrecoverable = pages->aside == NULL;
        return failure;
    }
    atomic_store(&pages->fault_offset, 0);
    atomic_store(&pages->fault_pages, 0);
    MMW_NEXT_STEP();
    drop_aside(pages);
    MMW_NEXT_STEP();
    pages->is_unrecoverable = false;
    return 0;
}

int64_t mmw_recover(mmw_pages *pages)
{
    if (pages == NULL || mmw_is_gone(pages)) return MMW_REFUSED(MMW_CLOSED);
    /* A handler of this thread that meets a missing page would set aside a page that is back. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    mmw_lock_records();
    int64_t result = atomic_load(&pages->fault_pages) != 0 ? recover(pages) : 0;
    mmw_unlock_records();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

uint64_t mmw_fault_offset(mmw_pages *pages) { return atomic_load(&pages->fault_offset); }

uint64_t mmw_fault_pages(mmw_pages *pages) { return atomic_load(&pages->fault_pages); }

/* Where the first lost page is now, 0 where none is aside. */
uint64_t mmw_fault_address(mmw_pages *pages)
{
    mmw_lock_records();
    bool is_aside = pages->aside != NULL && !pages->is_unrecoverable;
    uint64_t lead_in = (uint64_t)(pages->base - pages->mapped);
    uint64_t address =
        is_aside ? (uint64_t)(uintptr_t)pages->aside + lead_in + atomic_load(&pages->fault_offset)
                 : 0;
    mmw_unlock_records();
    return address;
}
