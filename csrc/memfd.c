/* Descriptors, and memory that has one and no name in any file system. */

#include "pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Made before the descriptor is, which then has an owner from the start, as pages have. */
struct mmw_descriptor {
    int fd; /* -1: none yet */
};

mmw_descriptor *mmw_new_descriptor(void)
{
    mmw_descriptor *owner = malloc(sizeof *owner);
    if (owner != NULL) owner->fd = -1;
    return owner;
}

void mmw_close_descriptor(mmw_descriptor *owner)
{
    if (owner->fd >= 0) close(owner->fd);
    free(owner);
}

int64_t mmw_own(mmw_descriptor *owner, int fd)
{
    owner->fd = fd;
    return fd;
}

int64_t mmw_open(mmw_descriptor *owner, const char *path, int flags, int mode)
{
    owner->fd = open(path, flags | O_NOCTTY, mode); /* a terminal is not to control this process */
    return owner->fd < 0 ? MMW_FAILED(MMW_CALL_OPEN) : owner->fd;
}

int64_t mmw_unlink(const char *path) { return unlink(path) != 0 ? MMW_FAILED(MMW_CALL_UNLINK) : 0; }

int64_t mmw_rename(const char *path, const char *name)
{
    return rename(path, name) != 0 ? MMW_FAILED(MMW_CALL_RENAME) : 0;
}

/* Linux has closed it, whatever it says. */
int64_t mmw_close(mmw_descriptor *owner)
{
    int fd = owner->fd;
    owner->fd = -1;
    if (fd < 0) return 0;
    return close(fd) != 0 && errno != EINTR ? MMW_FAILED(MMW_CALL_CLOSE) : 0;
}

int64_t mmw_duplicate(mmw_descriptor *owner, int fd)
{
    owner->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return owner->fd < 0 ? MMW_FAILED(MMW_CALL_FCNTL) : owner->fd;
}

/* glibc has memfd_create since 2.27, and the wheels run on glibc 2.17 as well. */
static int create_with_flags(const char *name, unsigned flags)
{
    return (int)syscall(SYS_memfd_create, name, flags);
}

static int create_memfd(const char *name)
{
    int fd = create_with_flags(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    /* Before Linux 6.3 a memfd was always executable. */
    if (fd < 0 && errno == EINVAL) fd = create_with_flags(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int64_t mmw_create_memfd(mmw_descriptor *owner, const char *name, int64_t size, int allocate)
{
    int fd = create_memfd(name);
    if (fd < 0) return MMW_FAILED(MMW_CALL_MEMFD_CREATE);
    int64_t failure = 0;
    while (!failure && ftruncate(fd, size) != 0)
        if (errno != EINTR) failure = MMW_FAILED(MMW_CALL_FTRUNCATE);
    /* This one may take long: a signal may end it, and the caller sees to that first. */
    if (!failure && allocate && size > 0 && fallocate(fd, 0, 0, size) != 0)
        failure = MMW_FAILED(MMW_CALL_FALLOCATE);
    if (failure) {
        close(fd);
        return failure;
    }
    owner->fd = fd;
    return fd;
}

int64_t mmw_fcntl(int fd, int command, int argument)
{
    int result = fcntl(fd, command, argument);
    return result < 0 ? MMW_FAILED(MMW_CALL_FCNTL) : result;
}

int64_t mmw_readlink(const char *path, char *target, uint64_t size)
{
    ssize_t length = readlink(path, target, size);
    return length < 0 ? MMW_FAILED(MMW_CALL_READLINK) : length;
}

/* One read(2) at the file's position, into memory of the caller's. */
int64_t mmw_read_file(int fd, char *into, uint64_t count)
{
    ssize_t done = read(fd, into, count);
    return done < 0 ? MMW_FAILED(MMW_CALL_READ) : done;
}
