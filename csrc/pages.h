/* The record behind a region, and the checks that every helper makes first. */

#ifndef MMAPWRAP_PAGES_H
#define MMAPWRAP_PAGES_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

#include "constants.h"

#include "declarations.h"

struct mmw_pages {
    char *base;            /* the region's first byte */
    _Atomic uint64_t size; /* the region's bytes */
    char *mapped;          /* the first page, at most a page before base */
    uint64_t mapped_size;  /* whole pages; more than the size needs where it may grow */
    uint64_t file_offset;  /* of base; only of pages of a file */
    uint64_t page_size;    /* what the kernel maps at once: a page, or a huge page of hugetlbfs */
    _Atomic uint64_t largest_page; /* of what was placed into an arena; 0: nothing larger */
    int flags;                     /* MAP_SHARED, MAP_ANONYMOUS, ... as mapped */
    bool is_borrowed;              /* somebody else unmaps it */
    bool is_moved;                 /* its pages have gone to another record */

    /* What every byte allows. All bits where the protection differs by range: Python then
     * knows the ranges and has checked before it calls. */
    _Atomic int prot;

    /* The fork count when MADV_DONTFORK was last applied, 0 if it was not or was taken back. A
     * process with another count is a child in which some pages do not exist: those between. */
    _Atomic uint64_t dontfork;
    char *dontfork_start, *dontfork_end;

    /* Pages that a guard replaced by zeros because they could not be read in; guard.c. */
    _Atomic uint64_t fault_pages;
    _Atomic uint64_t fault_offset;
    uint64_t *lost;        /* a bit for each page; NULL: no page was lost yet */
    char *aside;           /* as large as the mapping: each lost page, at its own place */
    char *spare;           /* a page of zeros for when the process may map nothing more */
    bool is_unrecoverable; /* a lost page could not be set aside */
    bool is_guarded;       /* on the list of guarded regions */
    bool is_released;      /* unmapped; the last guard frees the record */
    struct mmw_pages *guard_previous, *guard_next;
    uint64_t guards;

    struct mmw_pages *next_unreleased; /* mapping.c */
};

extern uint64_t mmw_page_size;
extern _Atomic uint64_t mmw_fork_count;
extern unsigned long mmw_forking_thread; /* the one thread that a child has from its parent */

/* A failure is a negative number: -refusal where the library says no, -(call << 12 | errno) of a
 * system call, and of a page that could not be read in or written to these. The offset is that of
 * the page's first byte in its region, which is the partner's where the call copies between two. */
#define MMW_REFUSED(refusal) (-(int64_t)(refusal))
#define MMW_FAULTED_AT(offset) (-(int64_t)(MMW_FAULT_FLAG | (offset)))
#define MMW_PARTNER_FAULTED_AT(offset) (-(int64_t)(MMW_FAULT_FLAG | MMW_PARTNER_FLAG | (offset)))
#define MMW_FAULT_FLAG (UINT64_C(1) << 62)
#define MMW_PARTNER_FLAG (UINT64_C(1) << 61)
#define MMW_FAILED_WITH(call, error) (-(((int64_t)(call) << 12) | (int64_t)(error)))
#define MMW_FAILED(call) MMW_FAILED_WITH(call, errno)

static inline uint64_t mmw_floor(uint64_t value, uint64_t page_size)
{
    return value & ~(page_size - 1);
}

/* Wraps to 0 past the last page; callers that can get there check first. */
static inline uint64_t mmw_ceiling(uint64_t value, uint64_t page_size)
{
    return mmw_floor(value + page_size - 1, page_size);
}

/* Records, each made without what it is to own, and released with it; owner.c calls these. */
mmw_pages *mmw_new(void);
void mmw_release(mmw_pages *pages);
mmw_guard *mmw_new_guard(void);
void mmw_free_guard(mmw_guard *guard);
mmw_descriptor *mmw_new_descriptor(void);
void mmw_close_descriptor(mmw_descriptor *owner);

/* Around every change of a list of records. */
void mmw_lock_records(void);
void mmw_unlock_records(void);

/* Between two steps whose order matters to a child that is forked in between. */
#define MMW_NEXT_STEP() atomic_thread_fence(memory_order_seq_cst)

static inline bool mmw_is_gone(mmw_pages *pages)
{
    uint64_t since = atomic_load_explicit(&pages->dontfork, memory_order_relaxed);
    return since != 0 && since != atomic_load_explicit(&mmw_fork_count, memory_order_relaxed);
}

/* The one range check: the region is open and sound, and holds the range. */
static inline int64_t mmw_check(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    if (pages == NULL || mmw_is_gone(pages)) return MMW_REFUSED(MMW_CLOSED);
    if (atomic_load_explicit(&pages->fault_pages, memory_order_relaxed) != 0)
        return MMW_REFUSED(MMW_FAULTED);
    uint64_t size = atomic_load_explicit(&pages->size, memory_order_relaxed);
    if (offset > size || count > size - offset) return MMW_REFUSED(MMW_OUT_OF_RANGE);
    return 0;
}

/* The same, and each byte of the range allows `need`. */
static inline int64_t mmw_check_access(mmw_pages *pages, uint64_t offset, uint64_t count, int need)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused) return refused;
    int missing = need & ~atomic_load_explicit(&pages->prot, memory_order_relaxed);
    if (missing & PROT_READ) return MMW_REFUSED(MMW_NOT_READABLE);
    if (missing & PROT_WRITE) return MMW_REFUSED(MMW_NOT_WRITABLE);
    return 0;
}

/* The same, for a call that must not widen its range: it starts on a page and ends on one or at the
 * region's end. `from_start`: the region's own start will do, though it lies inside a page. */
static inline int64_t mmw_check_whole_pages(mmw_pages *pages, uint64_t offset, uint64_t count,
                                            bool from_start)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused) return refused;
    uint64_t begin = (uint64_t)(uintptr_t)pages->base + offset, end = begin + count;
    if (mmw_floor(begin, pages->page_size) != begin && !(from_start && offset == 0))
        return MMW_REFUSED(MMW_START_NOT_ON_PAGE);
    if (mmw_floor(end, pages->page_size) != end && offset + count != pages->size)
        return MMW_REFUSED(MMW_END_NOT_ON_PAGE);
    return 0;
}

/* Remembers that a child will not have these pages; before the kernel is told. Whether they are the
 * region's first. */
bool mmw_note_dontfork(mmw_pages *pages, char *start, char *end);

/* Reserves addresses that start at a multiple of `align`. NULL with the failure where it cannot. */
char *mmw_reserve_aligned(uint64_t size, uint64_t align, int64_t *failure);

/* Reserves a range again if a failed call has unmapped it. Whether it had. */
bool mmw_fill_hole(char *place, size_t length);

/* Maps over a reservation. NULL with the failure where it cannot: the place stays reserved. */
char *mmw_map_reserved(char *place, size_t length, int prot, int flags, int fd, off_t file_offset,
                       int64_t *failure);

/* Writes zeros over a checked range, as a guarded access; paging.c. */
int64_t mmw_write_zeros(mmw_pages *pages, uint64_t offset, uint64_t count);

/* Moves the pages to a new record with room for `size` bytes; resize.c. */
int64_t mmw_move(mmw_pages *pages, mmw_pages *moved, uint64_t size);

/* mlock2(2) of whole pages; paging.c. */
int64_t mmw_mlock2(char *start, size_t length, unsigned flags);

/* madvise(MADV_DONTDUMP) of pages that are new. */
int64_t mmw_leave_out_of_dumps(char *start, size_t length);

/* A range of whole pages: what the kernel is told of a range of bytes. */
typedef struct {
    char *start;
    size_t length;
} mmw_whole_pages;

/* The pages of this size that the range touches. The range has been checked. */
static inline mmw_whole_pages mmw_widened_to(const mmw_pages *pages, uint64_t offset,
                                             uint64_t count, uint64_t page_size)
{
    uint64_t begin = (uint64_t)(uintptr_t)pages->base + offset;
    uint64_t first = mmw_floor(begin, page_size);
    return (mmw_whole_pages){(char *)(uintptr_t)first,
                             (size_t)(mmw_ceiling(begin + count, page_size) - first)};
}

static inline mmw_whole_pages mmw_widened(const mmw_pages *pages, uint64_t offset, uint64_t count)
{
    return mmw_widened_to(pages, offset, count, pages->page_size);
}

/* The same; where the range ends with the region, also the pages that the region may grow into. So
 * what is set on the region's last byte holds for what is added behind it. */
static inline mmw_whole_pages mmw_widened_to_room(const mmw_pages *pages, uint64_t offset,
                                                  uint64_t count)
{
    mmw_whole_pages range = mmw_widened(pages, offset, count);
    if (offset + count == pages->size && (count != 0 || pages->size == 0))
        range.length = (size_t)(pages->mapped + pages->mapped_size - range.start);
    return range;
}

#endif
