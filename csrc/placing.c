/* Mappings placed into a reservation, and taken out again: the arena's two system calls. */

#include "pages.h"

/* Covers a range with pages that allow nothing and cost nothing. */
static int64_t reserve(char *start, size_t length)
{
    if (mmap(start, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED)
        return MMW_FAILED(MMW_CALL_MMAP);
    /* As the rest of the reservation is, so that the kernel makes one mapping of them again. There
     * is nothing to dump, so if it does not that is no failure. */
    (void)madvise(start, length, MADV_DONTDUMP);
    return 0;
}

int64_t mmw_reserve(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, false);
    if (refused || count == 0) return refused;
    /* SAFETY: mmw_check_whole_pages found the range inside the region; the caller knows that no view
     * shows any of it. */
    return reserve(pages->base + offset, (size_t)count);
}

/* Makes a mapping of whole pages an arena: what it allows differs by range from now on, and it ends
 * where its last page does. */
int64_t mmw_become_arena(mmw_pages *pages)
{
    int64_t refused = mmw_check_whole_pages(pages, 0, 0, false);
    if (refused) return refused;
    pages->size = pages->mapped_size;
    pages->flags &= ~MAP_ANONYMOUS; /* what it holds may be a file from now on */
    atomic_store(&pages->prot, PROT_READ | PROT_WRITE | PROT_EXEC);
    return 0;
}

/* Maps over a range. What fails is found out elsewhere first, where something would be lost. */
int64_t mmw_place(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int flags, int fd,
                  uint64_t file_offset, int replaces)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, false);
    if (refused || count == 0) return refused;
    if (count % mmw_file_page_size(fd) != 0) return MMW_REFUSED(MMW_END_NOT_ON_PAGE);
    char *place = pages->base + offset;
    size_t length = (size_t)count;
    /* SAFETY: mmw_check_whole_pages found the range inside the region; the caller knows that no view
     * shows any of it. */
    char *mapped = mmap(replaces ? NULL : place, length, prot, replaces ? flags : flags | MAP_FIXED,
                        fd, (off_t)file_offset);
    if (mapped == MAP_FAILED) {
        int64_t failure = MMW_FAILED(MMW_CALL_MMAP);
        /* Older kernels may have unmapped the place before they failed. */
        if (!replaces) reserve(place, length);
        return failure;
    }
    bool stays_behind = atomic_load(&pages->dontfork) != 0;
    if (stays_behind) mmw_note_dontfork(pages, place, place + length);
    int64_t failure = mmw_leave_out_of_dumps(mapped, length);
    if (!failure && stays_behind && madvise(mapped, length, MADV_DONTFORK) != 0)
        failure = MMW_FAILED(MMW_CALL_MADVISE);
    if (!failure && replaces &&
        mremap(mapped, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED)
        failure = MMW_FAILED(MMW_CALL_MREMAP);
    if (failure && replaces) munmap(mapped, length);
    if (failure && !replaces) reserve(place, length);
    return failure;
}
