/* Mappings placed into a reservation, and taken out again: the arena's two system calls. */

#include "pages.h"

#include <fcntl.h>
#include <unistd.h>

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
    /* SAFETY: mmw_check_whole_pages found the range inside the region; the caller knows that no
     * view shows any of it. */
    return reserve(pages->base + offset, (size_t)count);
}

/* Makes a mapping of whole pages an arena: what it allows differs by range from now on, and it ends
 * where its last page does. */
int64_t mmw_become_arena(mmw_pages *pages)
{
    int64_t refused = mmw_check_whole_pages(pages, 0, 0, false);
    if (refused) return refused;
    pages->flags &= ~MAP_ANONYMOUS; /* what it holds may be a file from now on */
    atomic_store(&pages->prot, PROT_READ | PROT_WRITE | PROT_EXEC);
    pages->size = pages->mapped_size;
    return 0;
}

/* Maps at a place where nothing would be lost. NULL with the failure where it cannot. */
static char *map_elsewhere(size_t length, int prot, int flags, int fd, off_t file_offset,
                           int64_t *failure)
{
    char *place = mmw_reserve_aligned(length, mmw_file_page_size(fd), failure);
    if (place == NULL) return NULL;
    char *mapped = mmw_map_reserved(place, length, prot, flags, fd, file_offset, failure);
    if (mapped == NULL) munmap(place, length);
    return mapped;
}

/* Maps over a range. Where the range holds content (`replaces`), every step that the kernel may
 * refuse is tried elsewhere first: the mapping is made, at an address that the library chose as it
 * will choose the range's, and advised there; then it is moved. mremap unmaps its target before it
 * asks the file for an address, so after a failure the range may be a hole, which is reserved. */
static int64_t place_file(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int flags,
                          int fd, uint64_t file_offset, bool replaces)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, false);
    if (refused || count == 0) return refused;
    uint64_t page_size = mmw_file_page_size(fd);
    if (count % page_size != 0) return MMW_REFUSED(MMW_END_NOT_ON_PAGE);
    if (page_size > pages->page_size && page_size > atomic_load(&pages->largest_page))
        atomic_store(&pages->largest_page, page_size);
    char *place = pages->base + offset;
    size_t length = (size_t)count;
    /* SAFETY: mmw_check_whole_pages found the range inside the region; the caller knows that no
     * view shows any of it. */
    int64_t failure = 0;
    char *mapped =
        replaces ? map_elsewhere(length, prot, flags, fd, (off_t)file_offset, &failure)
                 : mmw_map_reserved(place, length, prot, flags, fd, (off_t)file_offset, &failure);
    if (mapped == NULL) return failure;
    bool stays_behind = atomic_load(&pages->dontfork) != 0;
    if (stays_behind) mmw_note_dontfork(pages, place, place + length);
    failure = mmw_leave_out_of_dumps(mapped, length);
    if (!failure && stays_behind && madvise(mapped, length, MADV_DONTFORK) != 0)
        failure = MMW_FAILED(MMW_CALL_MADVISE);
    if (!failure && replaces &&
        mremap(mapped, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, place) == MAP_FAILED) {
        failure = MMW_FAILED(MMW_CALL_MREMAP);
        if (mmw_fill_hole(place, length)) failure = MMW_REFUSED(MMW_CONTENT_LOST);
    }
    if (failure && replaces) munmap(mapped, length);
    if (failure && !replaces) reserve(place, length);
    return failure;
}

/* The file is mapped by a descriptor of the library's own. Another thread may put another file at
 * the caller's number at any time, and a file of huge pages would be mapped over more than the
 * range. */
int64_t mmw_place(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int flags, int fd,
                  uint64_t file_offset, int replaces)
{
    if (fd < 0) return place_file(pages, offset, count, prot, flags, fd, file_offset, replaces);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return MMW_FAILED(MMW_CALL_FCNTL);
    int64_t result = place_file(pages, offset, count, prot, flags, own, file_offset, replaces);
    close(own);
    return result;
}
