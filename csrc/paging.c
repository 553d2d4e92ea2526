/* What the kernel is told and asked about pages. */

#include "access.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int mmw_advice_is_known(int advice) { return madvise(NULL, 0, advice) == 0; }

bool mmw_note_dontfork(mmw_pages *pages, char *start, char *end)
{
    mmw_lock_records();
    bool is_first = atomic_load(&pages->dontfork) == 0;
    if (is_first || start < pages->dontfork_start) pages->dontfork_start = start;
    if (is_first || end > pages->dontfork_end) pages->dontfork_end = end;
    atomic_store(&pages->dontfork, atomic_load(&mmw_fork_count));
    mmw_unlock_records();
    return is_first;
}

static void note_dofork(mmw_pages *pages, const char *start, const char *end)
{
    mmw_lock_records();
    if (start <= pages->dontfork_start && end >= pages->dontfork_end)
        atomic_store(&pages->dontfork, 0);
    mmw_unlock_records();
}

static int64_t advise_pages(mmw_pages *pages, mmw_whole_pages range, int advice)
{
    char *end = range.start + range.length;
    bool is_first = advice == MADV_DONTFORK && mmw_note_dontfork(pages, range.start, end);
    /* SAFETY: the callers checked that the range's bytes are the region's. */
    int64_t failure =
        madvise(range.start, range.length, advice) != 0 ? MMW_FAILED(MMW_CALL_MADVISE) : 0;
    /* Some of the pages may be marked when it fails: only if none is, a child has them all. */
    bool is_undone = failure && is_first && madvise(range.start, range.length, MADV_DOFORK) == 0;
    if (is_undone || (!failure && advice == MADV_DOFORK)) note_dofork(pages, range.start, end);
    return failure;
}

/* Whether the kernel remembers an advice with the mapping, also for pages that are not there yet.
 */
static bool is_remembered(int advice)
{
    switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK: return true;
    default: return false;
    }
}

int64_t mmw_advise(mmw_pages *pages, uint64_t offset, uint64_t count, int advice)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused) return refused;
    mmw_whole_pages range = is_remembered(advice) ? mmw_widened_to_room(pages, offset, count)
                                                  : mmw_widened(pages, offset, count);
    return range.length == 0 || (count == 0 && pages->size != 0)
               ? 0
               : advise_pages(pages, range, advice);
}

int64_t mmw_advise_destructive(mmw_pages *pages, uint64_t offset, uint64_t count, int advice)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, false);
    if (refused || count == 0) return refused;
    return advise_pages(pages, mmw_widened(pages, offset, count), advice);
}

int64_t mmw_write_zeros(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, count);
    memset(pages->base + offset, 0, count);
    return mmw_access_end(&access, 0);
}

int64_t mmw_remove(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, false);
    if (!refused) refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused || count == 0) return refused;

    /* The file may go on where the region ends inside a page: what is not the region's stays, so
     * the bytes before it are zeroed instead of removed. */
    uint64_t tail = 0;
    if (!(pages->flags & MAP_ANONYMOUS))
        tail = ((uint64_t)(uintptr_t)pages->base + offset + count) & (pages->page_size - 1);
    if (count > tail) {
        int64_t failure =
            advise_pages(pages, mmw_widened(pages, offset, count - tail), MADV_REMOVE);
        if (failure) return failure;
    }
    return tail == 0 ? 0 : mmw_write_zeros(pages, offset + count - tail, tail);
}

int64_t mmw_msync(mmw_pages *pages, uint64_t offset, uint64_t count, int flags)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused || count == 0) return refused;
    mmw_whole_pages range = mmw_widened(pages, offset, count);
    /* SAFETY: mmw_check found the range inside the region. */
    return msync(range.start, range.length, flags) != 0 ? MMW_FAILED(MMW_CALL_MSYNC) : 0;
}

/* glibc has mlock2 since 2.27, and the wheels run on glibc 2.17 as well. */
int64_t mmw_mlock2(char *start, size_t length, unsigned flags)
{
    return syscall(SYS_mlock2, start, length, flags) != 0 ? MMW_FAILED(MMW_CALL_MLOCK2) : 0;
}

int64_t mmw_lock(mmw_pages *pages, uint64_t offset, uint64_t count, int flags)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused || count == 0) return refused;
    mmw_whole_pages range = mmw_widened(pages, offset, count);
    /* SAFETY: mmw_check found the range inside the region. */
    if (flags == 0) return mlock(range.start, range.length) != 0 ? MMW_FAILED(MMW_CALL_MLOCK) : 0;
    return mmw_mlock2(range.start, range.length, (unsigned)flags);
}

int64_t mmw_unlock(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused || count == 0) return refused;
    mmw_whole_pages range = mmw_widened(pages, offset, count);
    /* SAFETY: mmw_check found the range inside the region. */
    return munlock(range.start, range.length) != 0 ? MMW_FAILED(MMW_CALL_MUNLOCK) : 0;
}

int64_t mmw_populate(mmw_pages *pages, uint64_t offset, uint64_t count, int write)
{
    int64_t refused = mmw_check_access(pages, offset, count, write ? PROT_WRITE : PROT_READ);
    if (refused || count == 0) return refused;
    return advise_pages(pages, mmw_widened(pages, offset, count),
                        write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
}

/* `flags` holds a byte for each page that the range touches; 1 is in memory. mincore counts the
 * pages of a huge page one by one. */
int64_t mmw_residency(mmw_pages *pages, uint64_t offset, uint64_t count, char *flags)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused || count == 0) return refused;
    mmw_whole_pages range = mmw_widened_to(pages, offset, count, mmw_page_size);
    /* SAFETY: mmw_check found the range inside the region. */
    if (mincore(range.start, range.length, (unsigned char *)flags) != 0)
        return MMW_FAILED(MMW_CALL_MINCORE);
    for (size_t i = 0; i < range.length / mmw_page_size; i++) flags[i] &= 1;
    return 0;
}

#define MMW_FAR (UINT64_C(1) << 40)

/* Duplicates a page of a shared mapping and what follows it in the file, with a length. An error is
 * MAP_FAILED, with its call.
 *
 * mremap duplicates what it is asked to enlarge from nothing. The duplicate of locked memory is
 * locked, so that the kernel would read it in, and may refuse to lock so much: it is made of one
 * page, which is in memory where it is locked, and unlocked before it grows. */
static char *duplicate(char *page, size_t page_size, size_t length, int *call)
{
    *call = MMW_CALL_MREMAP;
    char *copy = mremap(page, 0, page_size, MREMAP_MAYMOVE);
    if (copy == MAP_FAILED) return MAP_FAILED;
    char *longer = MAP_FAILED;
    if (munlock(copy, page_size) != 0)
        *call = MMW_CALL_MUNLOCK;
    else
        longer = mremap(copy, page_size, length, MREMAP_MAYMOVE);
    int error = errno;
    if (longer == MAP_FAILED) munmap(copy, page_size);
    errno = error;
    return longer;
}

/* Whether the kernel tells this process the truth about a shared mapping of a file: 1 or 0. To whom
 * it does not tell it calls every page resident, so it is asked about a page far behind the end of
 * the file, in a duplicate of the region's mapping. */
int64_t mmw_tells_residency(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check(pages, offset, count);
    if (refused || count == 0) return refused;
    char *page = mmw_widened(pages, offset, count).start;
    size_t length = MMW_FAR + pages->page_size;
    int call;
    /* SAFETY: mmw_check found the page inside the region. */
    char *copy = duplicate(page, pages->page_size, length, &call);
    if (copy == MAP_FAILED) return MMW_FAILED(call);
    unsigned char is_resident = 1;
    int64_t failure = mincore(copy + MMW_FAR, mmw_page_size, &is_resident) != 0
                          ? MMW_FAILED(MMW_CALL_MINCORE)
                          : 0;
    munmap(copy, length);
    return failure ? failure : !(is_resident & 1);
}

uint64_t mmw_count_resident(const char *flags, uint64_t count)
{
    uint64_t resident = 0;
    for (uint64_t i = 0; i < count; i++) resident += flags[i] == 1;
    return resident;
}

int64_t mmw_evict(mmw_pages *pages, uint64_t offset, uint64_t count, int fd, uint64_t file_offset)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, true);
    if (refused || count == 0) return refused;
    mmw_whole_pages range = mmw_widened(pages, offset, count);
    uint64_t head = (uint64_t)(pages->base + offset - range.start);
    /* Only clean pages that nobody has mapped leave the cache: drop our own page-table entries (the
     * mapping is shared, so no content is lost), write the pages back, then ask. In this order, for
     * to clean what is mapped the kernel interrupts our other threads for each page. */
    int64_t failure = advise_pages(pages, range, MADV_DONTNEED);
    if (failure) return failure;
    while (fdatasync(fd) != 0)
        if (errno != EINTR) return MMW_FAILED(MMW_CALL_FDATASYNC);
    int error =
        posix_fadvise(fd, (off_t)(file_offset - head), (off_t)range.length, POSIX_FADV_DONTNEED);
    return error ? MMW_FAILED_WITH(MMW_CALL_POSIX_FADVISE, error) : 0;
}
