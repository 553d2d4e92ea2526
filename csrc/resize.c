/* The size of a region that grows and shrinks, and of the file behind it.
 *
 * A region has room for more bytes than it has: its mapping is made as large as the region may
 * become. A mapping may be longer than its file; only an access past the end is SIGBUS, and every
 * access of the library checks the region's size first. So to grow is to make the file longer and
 * then to store a larger size, and to shrink is to store the smaller size and then to cut the file:
 * no page moves, and whatever ends in between, no byte of the region is without its file. Where the
 * room is used up, the pages move to a larger one, in a record of its own: calls of other threads
 * go on in the old record, whose addresses stay mapped until the last of them ends.
 *
 * Several processes may change the length of one file at once. To grow must not undo what another
 * has added, so a file is made longer by fallocate(2), which never makes one shorter as
 * ftruncate(2) does. A file that goes on behind the region is not cut; between that look and the
 * cut another process may still add to it, for the kernel has no call that does both. */

#include "pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP /* Linux 5.7, of files 5.13 */
#define MREMAP_DONTUNMAP 4
#endif

/* Frees the memory behind a new end. That of a shared file goes with the file's own length. */
static int64_t free_pages(mmw_pages *pages, uint64_t size, uint64_t old_size)
{
    bool is_private = pages->flags & MAP_PRIVATE;
    uint64_t base = (uint64_t)(uintptr_t)pages->base;
    uint64_t first = mmw_ceiling(base + size, mmw_page_size);
    uint64_t last = mmw_ceiling(base + old_size, mmw_page_size);
    if (first == last || !(is_private || pages->flags & MAP_ANONYMOUS)) return 0;
    int advice = is_private ? MADV_DONTNEED : MADV_REMOVE;
    /* SAFETY: the pages are the region's, which ends before them by now; no view shows them, which
     * the caller has checked. */
    if (madvise((void *)(uintptr_t)first, last - first, advice) == 0) return 0;
    return MMW_FAILED(MMW_CALL_MADVISE);
}

int64_t mmw_resize(mmw_pages *pages, uint64_t size)
{
    int64_t refused = mmw_check(pages, 0, 0);
    if (refused) return refused;
    if (size > pages->mapped_size - (uint64_t)(pages->base - pages->mapped))
        return MMW_REFUSED(MMW_PAST_CAPACITY);
    uint64_t old_size = atomic_exchange(&pages->size, size);
    int64_t failure = size < old_size ? free_pages(pages, size, old_size) : 0;
    if (failure) atomic_store(&pages->size, old_size);
    return failure;
}

/* Where a child does not have the pages, it will not have those that are added either. */
static void move_dontfork(const mmw_pages *pages, mmw_pages *moved)
{
    char *end = pages->mapped + pages->mapped_size;
    if (atomic_load(&pages->dontfork) == 0) return;
    moved->dontfork_start = moved->mapped + (pages->dontfork_start - pages->mapped);
    moved->dontfork_end = pages->dontfork_end == end
                              ? moved->mapped + moved->mapped_size
                              : moved->mapped + (pages->dontfork_end - pages->mapped);
    atomic_store(&moved->dontfork, atomic_load(&pages->dontfork));
}

/* Moves the pages to a new record with room for `size` bytes. All that was set on them moves along,
 * and holds for what is added; where it differs by range the kernel refuses (EFAULT). */
int64_t mmw_move(mmw_pages *pages, mmw_pages *moved, uint64_t size)
{
    if (moved == NULL) return MMW_FAILED_WITH(MMW_CALL_MALLOC, ENOMEM);
    int64_t refused = mmw_check(pages, 0, 0);
    if (refused) return refused;
    if (pages->guards != 0) return MMW_FAILED_WITH(MMW_CALL_MREMAP, EBUSY);
    uint64_t head = (uint64_t)(pages->base - pages->mapped), length;
    if (__builtin_add_overflow(size, head + mmw_page_size - 1, &length))
        return MMW_REFUSED(MMW_SIZE_OVERFLOW);
    length = mmw_floor(length, mmw_page_size);
    size_t old_length = (size_t)pages->mapped_size;
    /* In two steps: the second one enlarges what nobody else knows of yet. */
    char *place =
        mremap(pages->mapped, old_length, old_length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (place == MAP_FAILED) return MMW_FAILED(MMW_CALL_MREMAP);
    char *longer = mremap(place, old_length, length, MREMAP_MAYMOVE);
    if (longer == MAP_FAILED) {
        int64_t failure = MMW_FAILED(MMW_CALL_MREMAP);
        /* SAFETY: back to where the pages came from, which is the region's own. */
        (void)mremap(place, old_length, old_length, MREMAP_MAYMOVE | MREMAP_FIXED, pages->mapped);
        return failure;
    }
    moved->size = pages->size;
    moved->mapped_size = length;
    moved->page_size = pages->page_size;
    moved->flags = pages->flags;
    moved->file_offset = pages->file_offset;
    moved->prot = pages->prot;
    moved->mapped = longer;
    moved->base = longer + head;
    move_dontfork(pages, moved);
    return 0;
}

/* Makes a file at least `end` bytes long, whoever else does so too. The bytes from `start` on get
 * their blocks if asked; otherwise only the last byte does. */
int64_t mmw_extend_file(int fd, uint64_t start, uint64_t end, int allocate)
{
    struct stat file;
    if (fstat(fd, &file) != 0) return MMW_FAILED(MMW_CALL_FSTAT);
    bool is_long_enough = (uint64_t)file.st_size >= end;
    /* Somebody may have cut it; what comes before `start` has its blocks otherwise. */
    if ((uint64_t)file.st_size < start) start = (uint64_t)file.st_size;
    if (is_long_enough && (!allocate || start >= end)) return 0;
    if (!allocate || start >= end) start = end - 1;
    if (fallocate(fd, 0, (off_t)start, (off_t)(end - start)) == 0) return 0;
    if (errno != EOPNOTSUPP) return MMW_FAILED(MMW_CALL_FALLOCATE);
    /* A file system that cannot: zeros are written instead, or the length is set. */
    if (allocate) {
        int error = posix_fallocate(fd, (off_t)start, (off_t)(end - start));
        return error ? MMW_FAILED_WITH(MMW_CALL_FALLOCATE, error) : 0;
    }
    return is_long_enough || ftruncate(fd, (off_t)end) == 0 ? 0 : MMW_FAILED(MMW_CALL_FTRUNCATE);
}

/* Cuts a file that ends where the region has ended. One that goes on behind it stays as it is. */
int64_t mmw_cut_file(int fd, uint64_t end, uint64_t old_end)
{
    struct stat file;
    if (fstat(fd, &file) != 0) return MMW_FAILED(MMW_CALL_FSTAT);
    uint64_t length = (uint64_t)file.st_size;
    if (length <= end || length > old_end) return 0;
    return ftruncate(fd, (off_t)end) == 0 ? 0 : MMW_FAILED(MMW_CALL_FTRUNCATE);
}
