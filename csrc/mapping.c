/* Pages that are mapped, change their protection, are named and unmapped; and what is asked of the
 * files that they are mapped from: their length, on block devices too, and the size of a page. */

#include "guard.h"

#include <linux/fs.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef PR_SET_VMA /* Linux 5.17 */
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

uint64_t mmw_page_size;

__attribute__((constructor)) static void ask_page_size(void)
{
    mmw_page_size = (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Of a file on hugetlbfs the block is the huge page; others may have large blocks as well. */
static uint64_t page_size_of(int fd, const struct stat *file)
{
    uint64_t block = (uint64_t)file->st_blksize;
    struct statfs system;
    bool is_huge =
        block > mmw_page_size && fstatfs(fd, &system) == 0 && system.f_type == HUGETLBFS_MAGIC;
    return is_huge ? block : mmw_page_size;
}

/* The pages that a file is mapped in: the kernel maps whole huge pages of one on hugetlbfs,
 * whatever length it is asked for, and over whatever lies there. */
uint64_t mmw_file_page_size(int fd)
{
    struct stat file;
    return fd >= 0 && fstat(fd, &file) == 0 ? page_size_of(fd, &file) : mmw_page_size;
}

static uint64_t length_of(int fd, const struct stat *file)
{
    uint64_t length;
    if (!S_ISBLK(file->st_mode)) return (uint64_t)file->st_size;
    return ioctl(fd, BLKGETSIZE64, &length) == 0 ? length : 0;
}

int64_t mmw_fstat(int fd, mmw_file_status *status)
{
    struct stat file;
    if (fstat(fd, &file) != 0) return MMW_FAILED(MMW_CALL_FSTAT);
    *status = (mmw_file_status){length_of(fd, &file), file.st_dev, file.st_ino, file.st_mode};
    return 0;
}

/* Refuses what a file that has a length does not have. A size of 0 becomes the rest of it. */
static int64_t fit_into_file(int fd, const struct stat *file, uint64_t start, uint64_t *size)
{
    if (!S_ISREG(file->st_mode) && !S_ISBLK(file->st_mode))
        return *size > 0 ? 0 : MMW_REFUSED(MMW_NO_SIZE);
    uint64_t end = length_of(fd, file);
    uint64_t rest = start < end ? end - start : 0;
    if (*size == 0) *size = rest;
    return 0 < *size && *size <= rest ? 0 : MMW_REFUSED(MMW_PAST_END);
}

static int64_t measure_file(int fd, uint64_t start, bool in_file, bool grows, uint64_t *page,
                            uint64_t *size)
{
    struct stat file;
    /* Where the length does not matter, mmap says what is wrong with the descriptor. */
    if (fstat(fd, &file) != 0) return in_file ? MMW_FAILED(MMW_CALL_FSTAT) : 0;
    *page = page_size_of(fd, &file);
    /* The kernel makes a file of huge pages as long as its mapping. */
    if (grows && (!S_ISREG(file.st_mode) || *page != mmw_page_size))
        return MMW_REFUSED(MMW_NOT_GROWABLE);
    bool is_empty = grows && *size == 0 && (uint64_t)file.st_size <= start;
    return in_file && !is_empty ? fit_into_file(fd, &file, start, size) : 0;
}

/* Reserves room for `length` bytes at a multiple of `align`, and nothing beside it. */
char *mmw_reserve_aligned(uint64_t length, uint64_t align, int64_t *failure)
{
    uint64_t room = length + align - mmw_page_size;
    char *start = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) {
        *failure = MMW_FAILED(MMW_CALL_MMAP);
        return NULL;
    }
    char *end = start + room;
    char *aligned = (char *)(((uintptr_t)start + align - 1) & ~(uintptr_t)(align - 1));
    char *aligned_end = aligned + length;
    /* SAFETY: both gaps lie inside the reservation, which nobody else knows of yet. */
    if ((aligned > start && munmap(start, (size_t)(aligned - start)) != 0)) {
        *failure = MMW_FAILED(MMW_CALL_MUNMAP);
        munmap(start, room);
        return NULL;
    }
    if (end > aligned_end && munmap(aligned_end, (size_t)(end - aligned_end)) != 0) {
        *failure = MMW_FAILED(MMW_CALL_MUNMAP);
        munmap(aligned, (size_t)(end - aligned));
        return NULL;
    }
    return aligned;
}

bool mmw_fill_hole(char *place, size_t length)
{
    char *filled = mmap(place, length, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (filled == MAP_FAILED) return false;
    if (filled != place) munmap(filled, length); /* before Linux 4.17 */
    if (filled == place) (void)madvise(place, length, MADV_DONTDUMP);
    return filled == place;
}

char *mmw_map_reserved(char *place, size_t length, int prot, int flags, int fd, off_t file_offset,
                       int64_t *failure)
{
    /* A file's driver is asked only when the reservation has gone. Another thread's memory may
     * land in the hole that a refusal leaves, so a refusal is met elsewhere first. */
    if (fd >= 0) {
        char *tried = mmap(NULL, length, prot, flags & ~MAP_POPULATE, fd, file_offset);
        if (tried == MAP_FAILED) {
            *failure = MMW_FAILED(MMW_CALL_MMAP);
            return NULL;
        }
        munmap(tried, length);
    }
    /* SAFETY: the place is a reservation of the caller's. */
    char *mapped = mmap(place, length, prot, flags | MAP_FIXED, fd, file_offset);
    if (mapped != MAP_FAILED) return mapped;
    *failure = MMW_FAILED(MMW_CALL_MMAP);
    mmw_fill_hole(place, length);
    return NULL;
}

/* Private writable memory is populated by writing, or each first write would fault all the same;
 * so is what cannot be read. */
static int populating_advice(int prot, int flags)
{
    bool is_written =
        (prot & PROT_WRITE) && ((flags & (MAP_PRIVATE | MAP_ANONYMOUS)) || !(prot & PROT_READ));
    return is_written ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
}

/* Maps the pages of a record whose sizes are set, and populates the first bytes of them. Nothing
 * stays mapped when it fails. */
static int64_t map_pages(mmw_pages *pages, uint64_t address, uint64_t align, int prot, int flags,
                         int fd, uint64_t file_start, uint64_t populated)
{
    int64_t failure = 0;
    bool by_advice = populated != 0 && mmw_advice_is_known(populating_advice(prot, flags));
    /* This one populates all, also what a region may only grow into. */
    if (populated == pages->mapped_size && !by_advice) flags |= MAP_POPULATE;
    char *mapped;
    if (align > pages->page_size) {
        char *reserved = mmw_reserve_aligned(pages->mapped_size, align, &failure);
        if (failure) return failure;
        mapped = mmw_map_reserved(reserved, pages->mapped_size, prot, flags, fd, (off_t)file_start,
                                  &failure);
        if (failure) munmap(reserved, pages->mapped_size);
    } else {
        /* SAFETY: the address is NULL, or the caller's own under MAP_FIXED_NOREPLACE or an unsafe
         * call's MAP_FIXED. */
        mapped = mmap((void *)(uintptr_t)address, pages->mapped_size, prot, flags, fd,
                      (off_t)file_start);
        if (mapped == MAP_FAILED) failure = MMW_FAILED(MMW_CALL_MMAP);
    }
    if (failure) return failure;
    if (address != 0 && mapped != (char *)(uintptr_t)address)
        failure = MMW_FAILED_WITH(MMW_CALL_MMAP, EEXIST); /* before Linux 4.17 a hint, no demand */
    else
        failure = mmw_leave_out_of_dumps(mapped, pages->mapped_size);
    if (!failure && by_advice && madvise(mapped, populated, populating_advice(prot, flags)) != 0)
        failure = MMW_FAILED(MMW_CALL_MADVISE);
    /* What cannot be unmapped now is unmapped with the record. */
    if (!failure || munmap(mapped, pages->mapped_size) != 0) pages->mapped = mapped;
    return failure;
}

/* madvise says EAGAIN where all else says ENOMEM: no memory, or no mapping left to split one with,
 * as where the kernel made one of new pages and those of somebody else beside them. */
int64_t mmw_leave_out_of_dumps(char *start, size_t length)
{
    if (madvise(start, length, MADV_DONTDUMP) == 0) return 0;
    return MMW_FAILED_WITH(MMW_CALL_MADVISE, errno == EAGAIN ? ENOMEM : errno);
}

mmw_pages *mmw_new(void) { return calloc(1, sizeof(mmw_pages)); }

int64_t mmw_map(mmw_pages *pages, uint64_t address, uint64_t size, uint64_t align, int prot,
                int flags, int fd, uint64_t file_offset, uint64_t capacity, int options)
{
    uint64_t page = mmw_page_size;
    int64_t failure = 0;
    if (fd >= 0)
        failure = measure_file(fd, file_offset, options & MMW_IN_FILE, capacity != 0, &page, &size);
    if (!failure && capacity != 0 && size > capacity) failure = MMW_REFUSED(MMW_PAST_CAPACITY);
    if (failure) return failure;
    uint64_t head = file_offset & (page - 1);
    if (align < page) align = page;
    uint64_t mapped_size, room;
    if (__builtin_add_overflow(capacity != 0 ? capacity : size, head + page - 1, &mapped_size) ||
        __builtin_add_overflow(mapped_size &= ~(page - 1), align, &room)) {
        return MMW_REFUSED(MMW_SIZE_OVERFLOW);
    }
    pages->size = size;
    pages->mapped_size = mapped_size;
    pages->page_size = page;
    pages->flags = flags;
    pages->file_offset = file_offset;
    pages->prot = prot;
    failure =
        map_pages(pages, address == 0 ? 0 : address - head, align, prot, flags, fd,
                  file_offset - head, options & MMW_POPULATE ? mmw_ceiling(head + size, page) : 0);
    if (!failure) pages->base = pages->mapped + head;
    return failure;
}

int64_t mmw_borrow(mmw_pages *pages, uint64_t address, uint64_t size, int prot)
{
    pages->is_borrowed = true;
    pages->page_size = mmw_page_size;
    pages->base = (char *)(uintptr_t)address;
    pages->size = size;
    pages->mapped = (char *)(uintptr_t)mmw_floor(address, mmw_page_size);
    pages->mapped_size =
        mmw_ceiling(address + size, mmw_page_size) - mmw_floor(address, mmw_page_size);
    pages->prot = prot;
    return 0;
}

static bool is_unmapped(const mmw_pages *pages)
{
    return munmap(pages->mapped, pages->mapped_size) == 0;
}

/* To cut pages out of what the kernel keeps as one mapping takes another one, and the process may
 * have no more. What nobody shares of their memory goes at once, their addresses when a later
 * release finds room. */
static mmw_pages *_Atomic unreleased;

static void put_on_list(mmw_pages *pages)
{
    mmw_lock_records();
    pages->next_unreleased = unreleased;
    unreleased = pages;
    mmw_unlock_records();
}

static mmw_pages *take_list(void)
{
    mmw_lock_records();
    mmw_pages *taken = unreleased;
    unreleased = NULL;
    mmw_unlock_records();
    return taken;
}

/* A child that is forked in here has neither the thread nor the list that it took, and keeps those
 * pages: a child of a process at its limit. */
static void release_again(void)
{
    for (mmw_pages *pages = take_list(), *next; pages != NULL; pages = next) {
        next = pages->next_unreleased;
        if (mmw_is_gone(pages) || is_unmapped(pages))
            mmw_guard_release(pages);
        else
            put_on_list(pages);
    }
}

void mmw_release(mmw_pages *pages)
{
    mmw_guard_forget(pages);
    /* SAFETY: the last holder of the record lets go of it. In a child that did not inherit the
     * pages something else may live at their address by now, so they are left alone there. */
    bool has_none = pages->is_borrowed || pages->mapped == NULL || mmw_is_gone(pages);
    if (has_none || is_unmapped(pages)) {
        mmw_guard_release(pages);
    } else {
        (void)madvise(pages->mapped, pages->mapped_size, MADV_DONTNEED);
        put_on_list(pages);
    }
    if (atomic_load_explicit(&unreleased, memory_order_relaxed) != NULL) release_again();
}

uint64_t mmw_address(mmw_pages *pages) { return (uint64_t)(uintptr_t)pages->base; }

uint64_t mmw_size(mmw_pages *pages) { return pages == NULL ? 0 : pages->size; }

uint64_t mmw_page_size_of(mmw_pages *pages)
{
    return pages == NULL ? mmw_page_size : pages->page_size;
}

uint64_t mmw_mapped_size(mmw_pages *pages) { return pages == NULL ? 0 : pages->mapped_size; }

int64_t mmw_check_range(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    return mmw_check(pages, offset, count);
}

int mmw_is_open(mmw_pages *pages) { return pages != NULL && !mmw_is_gone(pages); }

/* From the region's own start, wherever in a page that is. */
int64_t mmw_check_pages(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    return mmw_check_whole_pages(pages, offset, count, true);
}

int64_t mmw_protect(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int common)
{
    int64_t refused = mmw_check_whole_pages(pages, offset, count, true);
    if (refused) return refused;
    mmw_whole_pages range = mmw_widened_to_room(pages, offset, count);
    if (range.length == 0) return 0;
    /* SAFETY: mmw_check_whole_pages found the range inside the region; no view is broken by it,
     * which the caller has checked. */
    if (mprotect(range.start, range.length, prot) != 0) return MMW_FAILED(MMW_CALL_MPROTECT);
    atomic_store(&pages->prot, common);
    return 0;
}

int64_t mmw_name(mmw_pages *pages, const char *name)
{
    int64_t refused = mmw_check(pages, 0, 0);
    if (refused) return refused;
    if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, pages->mapped, pages->mapped_size, name) != 0)
        return MMW_FAILED(MMW_CALL_PRCTL);
    return 0;
}
