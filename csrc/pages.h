/* The record behind a region, and the checks that every helper makes first. */

#ifndef MMAPWRAP_PAGES_H
#define MMAPWRAP_PAGES_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "constants.h"

#include "declarations.h"

struct mmw_pages {
    char *base;           /* the region's first byte */
    uint64_t size;        /* the region's bytes */
    char *mapped;         /* the first page, at most a page before base */
    uint64_t mapped_size; /* whole pages */
    uint64_t file_offset; /* of base; only of pages of a file */
    uint64_t unit;        /* what the kernel maps at once: a page, or a huge page of hugetlbfs */
    int flags;            /* MAP_SHARED, MAP_ANONYMOUS, ... as mapped */
    bool is_borrowed;     /* somebody else unmaps it */

    /* What every byte allows. All bits where the protection differs by range: Python then
     * knows the ranges and has checked before it calls. */
    _Atomic int prot;

    /* The fork count when MADV_DONTFORK was last applied, 0 if it was not or was taken back. A
     * process with another count is a child in which some pages do not exist: those between. */
    _Atomic uint64_t dontfork;
    char *dontfork_start, *dontfork_end;

    /* Pages that could not be read in; guard.c. */
    _Atomic uint64_t fault_pages;
    _Atomic uint64_t fault_offset;
    uint64_t *fault_bitmap;
    struct mmw_pages *guard_previous, *guard_next;
    uint64_t guards;

    struct mmw_pages *next_unreleased; /* mapping.c */
};

extern uint64_t mmw_page_size;
extern _Atomic uint64_t mmw_fork_count;

#define MMW_REFUSED(refusal) (-(int64_t)(refusal))
#define MMW_FAILED_WITH(call, error) (-(((int64_t)(call) << 12) | (int64_t)(error)))
#define MMW_FAILED(call) MMW_FAILED_WITH(call, errno)

static inline uint64_t mmw_page_floor(uint64_t value) { return value & ~(mmw_page_size - 1); }

/* Wraps to 0 past the last page; callers that can get there check first. */
static inline uint64_t mmw_page_ceiling(uint64_t value)
{
    return mmw_page_floor(value + mmw_page_size - 1);
}

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
    if (offset > pages->size || count > pages->size - offset)
        return MMW_REFUSED(MMW_OUT_OF_RANGE);
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
    if (mmw_page_floor(begin) != begin && !(from_start && offset == 0))
        return MMW_REFUSED(MMW_START_NOT_ON_PAGE);
    if (mmw_page_floor(end) != end && offset + count != pages->size)
        return MMW_REFUSED(MMW_END_NOT_ON_PAGE);
    return 0;
}

/* Remembers that a child will not have these pages; before the kernel is told. Whether they are the
 * region's first. */
bool mmw_note_dontfork(mmw_pages *pages, char *start, char *end);

/* madvise(MADV_DONTDUMP) of pages that are new. */
int64_t mmw_leave_out_of_dumps(char *start, size_t length);

/* The pages that a file is mapped in: the kernel maps whole huge pages of one on hugetlbfs, whatever
 * length it is asked for, and over whatever lies there. */
uint64_t mmw_file_page_size(int fd);

/* A range of whole pages: what the kernel is told of a range of bytes. */
typedef struct {
    char *start;
    size_t length;
} mmw_whole_pages;

/* The pages that the range touches. The range has been checked. */
static inline mmw_whole_pages mmw_widened(const mmw_pages *pages, uint64_t offset, uint64_t count)
{
    uint64_t begin = (uint64_t)(uintptr_t)pages->base + offset;
    uint64_t first = mmw_page_floor(begin);
    return (mmw_whole_pages){(char *)(uintptr_t)first,
                             (size_t)(mmw_page_ceiling(begin + count) - first)};
}

#endif
