/* A range of a region as a file: its position, which threads and signal handlers move without a
 * lock, and the copies from and to it. */

#include "pages.h"

uint64_t mmw_file_size(mmw_pages *pages, const mmw_file *file)
{
    uint64_t size = mmw_size(pages);
    uint64_t rest = size > file->start ? size - file->start : 0;
    return file->count < rest ? file->count : rest;
}

int mmw_file_move(mmw_file *file, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n(&file->position, &from, to, 0, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

/* Moves past up to `*count` bytes, and sets `*count` to what these are. The old position. */
static uint64_t take(mmw_pages *pages, mmw_file *file, uint64_t *count)
{
    uint64_t size = mmw_file_size(pages, file);
    uint64_t position = __atomic_load_n(&file->position, __ATOMIC_RELAXED), taken;
    do {
        uint64_t rest = position < size ? size - position : 0;
        taken = *count < rest ? *count : rest;
    } while (!__atomic_compare_exchange_n(&file->position, &position, position + taken, 0,
                                          __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    *count = taken;
    return position;
}

int64_t mmw_file_read(mmw_pages *pages, mmw_file *file, char *into, uint64_t count)
{
    uint64_t position = take(pages, file, &count);
    if (count == 0) return mmw_check(pages, 0, 0);
    int64_t result = mmw_read(pages, file->start + position, count, into);
    if (result < 0) mmw_file_move(file, position + count, position);
    return result;
}

int64_t mmw_file_write(mmw_pages *pages, mmw_file *file, const char *source, uint64_t count)
{
    uint64_t wanted = count, position = take(pages, file, &count);
    if (count == 0) {
        int64_t refused = mmw_check(pages, 0, 0);
        return refused || wanted == 0 ? refused : MMW_FAILED_WITH(MMW_CALL_WRITE, ENOSPC);
    }
    int64_t result = mmw_write(pages, file->start + position, count, source);
    if (result < 0) mmw_file_move(file, position + count, position);
    return result;
}
