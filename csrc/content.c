/* Copying in and out, guarded against pages that cannot be read in. */

#include "access.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int64_t read_bytes(mmw_pages *pages, uint64_t offset, uint64_t count, char *into,
                          const char *guarded)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, guarded, count);
    memmove(into, pages->base + offset, count);
    return mmw_access_end(&access, (int64_t)count);
}

int64_t mmw_read(mmw_pages *pages, uint64_t offset, uint64_t count, char *into)
{
    return read_bytes(pages, offset, count, into, into);
}

/* Into memory that the caller has just made, which is no mapping of a file. */
int64_t mmw_read_new(mmw_pages *pages, uint64_t offset, uint64_t count, char *into)
{
    return read_bytes(pages, offset, count, into, NULL);
}

/* Every `step`th byte of a range, from its end where the step is negative. */
typedef struct {
    char *first;
    uint64_t number;
} chosen_bytes;

static chosen_bytes choose(const mmw_pages *pages, uint64_t offset, uint64_t count, int64_t step)
{
    uint64_t stride = step < 0 ? -(uint64_t)step : (uint64_t)step;
    return (chosen_bytes){pages->base + offset + (step < 0 ? count - 1 : 0),
                          (count - 1) / stride + 1};
}

MMW_WORK void gather(char *into, const char *first, uint64_t number, int64_t step)
{
    for (uint64_t i = 0; i < number; i++) into[i] = first[(int64_t)i * step];
}

MMW_WORK void scatter(char *first, const char *source, uint64_t number, int64_t step)
{
    for (uint64_t i = 0; i < number; i++) first[(int64_t)i * step] = source[i];
}

int64_t mmw_read_steps(mmw_pages *pages, uint64_t offset, uint64_t count, char *into, int64_t step)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused || count == 0) return refused;
    chosen_bytes chosen = choose(pages, offset, count, step);
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, into, chosen.number);
    gather(into, chosen.first, chosen.number, step);
    return mmw_access_end(&access, (int64_t)chosen.number);
}

/* `aside`: room for a copy of a source that would be written over before it is read, or NULL. */
static int64_t write_chosen(mmw_pages *pages, chosen_bytes chosen, const char *source, char *aside,
                            int64_t step)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, source, chosen.number);
    if (aside != NULL) memcpy(aside, source, chosen.number);
    scatter(chosen.first, aside == NULL ? source : aside, chosen.number, step);
    return mmw_access_end(&access, (int64_t)chosen.number);
}

int64_t mmw_write_steps(mmw_pages *pages, uint64_t offset, uint64_t count, const char *source,
                        int64_t step)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused || count == 0) return refused;
    chosen_bytes chosen = choose(pages, offset, count, step);
    const char *start = pages->base + offset;
    bool overlaps = source < start + count && start < source + chosen.number;
    char *aside = overlaps ? malloc(chosen.number) : NULL;
    if (overlaps && aside == NULL) return MMW_FAILED(MMW_CALL_MALLOC);
    int64_t result = write_chosen(pages, chosen, source, aside, step);
    free(aside);
    return result;
}

int64_t mmw_write(mmw_pages *pages, uint64_t offset, uint64_t count, const char *source)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, source, count);
    memmove(pages->base + offset, source, count);
    return mmw_access_end(&access, (int64_t)count);
}

int64_t mmw_read_byte(mmw_pages *pages, uint64_t offset)
{
    int64_t refused = mmw_check_access(pages, offset, 1, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, 1);
    int64_t value = (unsigned char)pages->base[offset];
    return mmw_access_end(&access, value);
}

int64_t mmw_write_byte(mmw_pages *pages, uint64_t offset, unsigned char value)
{
    int64_t refused = mmw_check_access(pages, offset, 1, PROT_WRITE);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, 1);
    pages->base[offset] = (char)value;
    return mmw_access_end(&access, 0);
}

int64_t mmw_fill(mmw_pages *pages, uint64_t offset, uint64_t count, unsigned char value)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, count);
    memset(pages->base + offset, value, count);
    return mmw_access_end(&access, 0);
}

int64_t mmw_copy(mmw_pages *pages, uint64_t offset, uint64_t count, mmw_pages *target,
                 uint64_t target_offset)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (!refused) refused = mmw_check_access(target, target_offset, count, PROT_WRITE);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS_BOTH(&access, pages, PROT_READ, target);
    memmove(target->base + target_offset, pages->base + offset, count);
    return mmw_access_end(&access, (int64_t)count);
}

/* One read(2) or pread(2): the kernel copies, so what is not there is EFAULT and no signal. */
int64_t mmw_read_from_fd(mmw_pages *pages, uint64_t offset, uint64_t count, int fd,
                         int64_t file_offset)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused) return refused;
    char *into = pages->base + offset;
    /* SAFETY: mmw_check_access found the range inside the region. */
    ssize_t done = file_offset < 0 ? read(fd, into, count) : pread(fd, into, count, file_offset);
    return done < 0 ? MMW_FAILED(MMW_CALL_READ) : done;
}

int64_t mmw_write_to_fd(mmw_pages *pages, uint64_t offset, uint64_t count, int fd,
                        int64_t file_offset)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    const char *from = pages->base + offset;
    /* SAFETY: mmw_check_access found the range inside the region. */
    ssize_t done = file_offset < 0 ? write(fd, from, count) : pwrite(fd, from, count, file_offset);
    return done < 0 ? MMW_FAILED(MMW_CALL_WRITE) : done;
}

/* Whether each read of a socket gives one message, and the rest of it is lost. */
int mmw_keeps_messages_apart(int fd)
{
    int type = SOCK_STREAM;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type != SOCK_STREAM;
}
