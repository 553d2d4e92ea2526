/* Guards: pages that cannot be read in are zeros for raw views. */

#ifndef MMAPWRAP_GUARD_H
#define MMAPWRAP_GUARD_H

#include "pages.h"

/* Whether the address belongs to a region's pages that this process has. */
static inline bool mmw_covers(mmw_pages *pages, const char *address)
{
    return !mmw_is_gone(pages) && address >= pages->mapped &&
           (uint64_t)(address - pages->mapped) < pages->mapped_size;
}

/* The offset in its region of the page at an address that the region covers. */
static inline uint64_t mmw_offset_of_page(const mmw_pages *pages, const char *address)
{
    uint64_t index = (uint64_t)(address - pages->mapped) / pages->page_size;
    const char *page = pages->mapped + index * pages->page_size;
    return page < pages->base ? 0 : (uint64_t)(page - pages->base);
}

/* For the signal handler: puts zeros at an address under a guard; false where there is none. */
bool mmw_guard_repair(const char *address);

/* Whether any region is under a guard. */
bool mmw_guard_is_active(void);

/* Unmaps what guards have set aside for a region whose pages are about to go. */
void mmw_guard_forget(mmw_pages *pages);

/* Frees the record of a region whose pages have gone, or leaves that to its last guard. */
void mmw_guard_release(mmw_pages *pages);

/* Puts a region on the list of guarded ones, and takes it out; under the lock of the records. */
void mmw_link_guarded(mmw_pages *pages);
void mmw_unlink_guarded(mmw_pages *pages);

/* Maps the page of zeros that a region under a guard keeps for when no other can be mapped. */
void mmw_keep_spare(mmw_pages *pages);

#endif
