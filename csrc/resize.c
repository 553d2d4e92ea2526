/* The size of a region that grows and shrinks, and of the file behind it.
 *
 * A region has room for more bytes than it has: its mapping is made as large as the region may
 * become. A mapping may be longer than its file; only an access past the end is SIGBUS, and every
 * access of the library checks the region's size first. So to grow is to make the file longer and
 * then to store a larger size, and to shrink is to store the smaller size and then to cut the file:
 * no page moves, and whatever ends in between, no byte of the region is without its file. The pages
 * behind the end, which no call reaches, get what the last byte has before they become the
 * region's. Where the room is used up, the pages move to a larger one, in a record of its own:
 * calls of other threads go on in the old record, whose addresses stay mapped until the last of
 * them ends.
 *
 * Several processes may change the length of one file at once. To grow must not undo what another
 * has added, so a file is made longer by fallocate(2), which never makes one shorter as
 * ftruncate(2) does, or by appending to it where the file system has no such call. A file that goes
 * on behind the region is not cut; between that look and the cut another process may still add to
 * it, for the kernel has no call that does both. */

#include "pages.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP /* Linux 5.7, of files 5.13 */
#define MREMAP_DONTUNMAP 4
#endif

static char *first_page_from(const mmw_pages *pages, uint64_t offset)
{
    uint64_t address = (uint64_t)(uintptr_t)pages->base + offset;
    return (char *)(uintptr_t)mmw_ceiling(address, mmw_page_size);
}

/* Frees the memory between a new end and the old one, if nobody else has it: that of a shared file
 * goes with the file's own length, and what is shared with children may be in use there. */
static int64_t drop(mmw_pages *pages, uint64_t size, uint64_t old_size)
{
    if (!(pages->flags & MAP_PRIVATE)) return 0;
    char *first = first_page_from(pages, size), *last = first_page_from(pages, old_size);
    /* SAFETY: the pages are the region's; no view shows them, which the caller has checked. */
    if (first < last && madvise(first, (size_t)(last - first), MADV_DONTNEED_LOCKED) != 0 &&
        madvise(first, (size_t)(last - first), MADV_DONTNEED) != 0)
        return MMW_FAILED(MMW_CALL_MADVISE);
    char *end = pages->base + size, *old_end = pages->base + old_size;
    uint64_t rest = (uint64_t)((first < old_end ? first : old_end) - end);
    return pages->flags & MAP_ANONYMOUS && rest > 0 ? mmw_write_zeros(pages, size, rest) : 0;
}

int64_t mmw_resize(mmw_pages *pages, uint64_t size)
{
    int64_t refused = mmw_check(pages, 0, 0);
    if (refused) return refused;
    if (size > pages->mapped_size - (uint64_t)(pages->base - pages->mapped))
        return MMW_REFUSED(MMW_PAST_CAPACITY);
    uint64_t old_size = pages->size;
    int64_t failure = size < old_size ? drop(pages, size, old_size) : 0;
    if (!failure) atomic_store(&pages->size, size);
    return failure;
}

/* Gives the pages behind the end a protection, and takes away what guard pages lie there up to a
 * later end. A kernel that knows no guard pages has none (EINVAL). */
int64_t mmw_protect_room(mmw_pages *pages, uint64_t end, int prot)
{
    char *first = first_page_from(pages, pages->size), *last = first_page_from(pages, end);
    char *room_end = pages->mapped + pages->mapped_size;
    if (first >= room_end) return 0;
    /* SAFETY: the pages are the mapping's, and behind the end of the region. */
    if (first < last && madvise(first, (size_t)(last - first), MADV_GUARD_REMOVE) != 0 &&
        errno != EINVAL)
        return MMW_FAILED(MMW_CALL_MADVISE);
    if (mprotect(first, (size_t)(room_end - first), prot) != 0)
        return MMW_FAILED(MMW_CALL_MPROTECT);
    return 0;
}

/* Locks the pages between the end and a later one as they are touched, or unlocks them. */
int64_t mmw_lock_room(mmw_pages *pages, uint64_t end, int is_locked)
{
    char *first = first_page_from(pages, pages->size), *last = first_page_from(pages, end);
    if (first >= last) return 0;
    size_t length = (size_t)(last - first);
    int64_t failure = 0;
    /* SAFETY: as above. */
    if (is_locked) failure = mmw_mlock2(first, length, MLOCK_ONFAULT);
    if ((failure || !is_locked) && munlock(first, length) != 0 && !failure)
        failure = MMW_FAILED(MMW_CALL_MUNLOCK);
    return failure;
}

/* Where a child does not have the pages, it will not have those that are added either. */
static void move_dontfork(const mmw_pages *pages, mmw_pages *moved, uint64_t since)
{
    char *end = pages->mapped + pages->mapped_size;
    if (since == 0) return;
    moved->dontfork_start = moved->mapped + (pages->dontfork_start - pages->mapped);
    moved->dontfork_end = pages->dontfork_end == end
                              ? moved->mapped + moved->mapped_size
                              : moved->mapped + (pages->dontfork_end - pages->mapped);
    atomic_store(&moved->dontfork, since);
}

/* Moves the pages elsewhere, in two steps: the second one enlarges what nobody else knows of yet.
 * Their place; where it is not larger, the failure is set. NULL where they have not moved. */
static char *move(mmw_pages *pages, size_t length, int64_t *failure)
{
    size_t old_length = (size_t)pages->mapped_size;
    char *place =
        mremap(pages->mapped, old_length, old_length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    if (place == MAP_FAILED) {
        *failure = MMW_FAILED(MMW_CALL_MREMAP);
        return NULL;
    }
    char *longer = mremap(place, old_length, length, MREMAP_MAYMOVE);
    if (longer != MAP_FAILED) return longer;
    /* There is no mapping of that length (EINVAL) for want of addresses. */
    *failure = MMW_FAILED_WITH(MMW_CALL_MREMAP, errno == EINVAL ? ENOMEM : errno);
    return place;
}

/* Moves the pages to a new record with room for `size` bytes. All that was set on them moves along,
 * and holds for what is added; where it differs by range the kernel refuses (EFAULT). Once the
 * record has pages they are there, also after a failure.
 *
 * In a child that is forked meanwhile the old record, which is all it knows, is that of pages which
 * it does not have. A guard is entered before this begins, and forbids it, or knows that the record
 * is not the region's any more. */
int64_t mmw_move(mmw_pages *pages, mmw_pages *moved, uint64_t size)
{
    if (moved == NULL) return MMW_FAILED_WITH(MMW_CALL_MALLOC, ENOMEM);
    int64_t failure = mmw_check(pages, 0, 0);
    if (failure) return failure;
    uint64_t head = (uint64_t)(pages->base - pages->mapped), length;
    if (__builtin_add_overflow(size, head + mmw_page_size - 1, &length))
        return MMW_REFUSED(MMW_SIZE_OVERFLOW);
    length = mmw_floor(length, mmw_page_size);
    mmw_lock_records();
    if (pages->guards != 0) {
        mmw_unlock_records();
        return MMW_FAILED_WITH(MMW_CALL_MREMAP, EBUSY);
    }
    uint64_t since = atomic_load(&pages->dontfork);
    atomic_store(&pages->dontfork, atomic_load(&mmw_fork_count));
    MMW_NEXT_STEP();
    char *place = move(pages, (size_t)length, &failure);
    pages->is_moved = place != NULL;
    if (place == NULL) atomic_store(&pages->dontfork, since);
    mmw_unlock_records();
    if (place == NULL) return failure;
    moved->size = pages->size;
    moved->mapped_size = failure ? pages->mapped_size : length;
    moved->page_size = pages->page_size;
    moved->flags = pages->flags;
    moved->file_offset = pages->file_offset;
    moved->prot = pages->prot;
    moved->mapped = place;
    moved->base = place + head;
    move_dontfork(pages, moved, since);
    return failure;
}

/* glibc has pwritev2 since 2.26 and musl since 1.2.5, and the wheels run on older ones as well. */
static ssize_t append(int fd, const struct iovec *part)
{
    long offset = 0, upper_half_of_offset = 0;
    return syscall(SYS_pwritev2, fd, part, 1L, offset, upper_half_of_offset, RWF_APPEND);
}

/* Appends zeros until a file has this length: atomically each, so that nothing that others append
 * is written over. */
static int64_t append_zeros(int fd, uint64_t length)
{
    static const char zeros[1 << 16];
    for (;;) {
        struct stat file;
        if (fstat(fd, &file) != 0) return MMW_FAILED(MMW_CALL_FSTAT);
        if ((uint64_t)file.st_size >= length) return 0;
        uint64_t rest = length - (uint64_t)file.st_size;
        struct iovec part = {(void *)(uintptr_t)zeros, rest < sizeof zeros ? rest : sizeof zeros};
        if (append(fd, &part) < 0) return MMW_FAILED(MMW_CALL_WRITE);
    }
}

/* Gives back what a failed call has taken of the file system, if it made the file longer. */
static void undo_extension(int fd, off_t length, uint64_t end)
{
    struct stat file;
    if (fstat(fd, &file) == 0 && file.st_size > length && (uint64_t)file.st_size <= end)
        (void)!ftruncate(fd, length);
}

/* Makes a file at least `end` bytes long. The bytes from `start` on get their blocks if asked;
 * otherwise only the last byte does. */
int64_t mmw_extend_file(int fd, uint64_t start, uint64_t end, int allocate)
{
    struct stat file;
    if (fstat(fd, &file) != 0) return MMW_FAILED(MMW_CALL_FSTAT);
    uint64_t length = (uint64_t)file.st_size;
    /* Somebody may have cut it; what comes before `start` has its blocks otherwise. */
    if (length < start) start = length;
    bool is_long_enough = length >= end;
    if (is_long_enough && (!allocate || start >= end)) return 0;
    if (!allocate || start >= end) start = end - 1;
    if (fallocate(fd, 0, (off_t)start, (off_t)(end - start)) == 0) return 0;
    int error = errno;
    int64_t failure = MMW_FAILED_WITH(MMW_CALL_FALLOCATE, error);
    /* A file system that cannot. */
    if (error == EOPNOTSUPP && allocate)
        failure = append_zeros(fd, end);
    else if (error == EOPNOTSUPP)
        failure = ftruncate(fd, (off_t)end) == 0 ? 0 : MMW_FAILED(MMW_CALL_FTRUNCATE);
    if (failure && error != EINTR) undo_extension(fd, file.st_size, end);
    return failure;
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
