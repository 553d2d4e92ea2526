/* Descriptors, and memory that has one and no name in any file system. */

#include "pages.h"

#include <fcntl.h>
#include <unistd.h>

static int create_memfd(const char *name)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    /* Before Linux 6.3 a memfd was always executable. */
    if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

int64_t mmw_create_memfd(const char *name, int64_t size, int allocate)
{
    int fd = create_memfd(name);
    if (fd < 0) return MMW_FAILED(MMW_CALL_MEMFD_CREATE);
    int64_t failure = 0;
    while (!failure && ftruncate(fd, size) != 0)
        if (errno != EINTR) failure = MMW_FAILED(MMW_CALL_FTRUNCATE);
    /* This one may take long: a signal ends it, and the caller sees to that first. */
    if (!failure && allocate && fallocate(fd, 0, 0, size) != 0)
        failure = MMW_FAILED(MMW_CALL_FALLOCATE);
    if (!failure) return fd;
    close(fd);
    return failure;
}

void mmw_close_descriptor(mmw_descriptor *descriptor)
{
    close((int)((intptr_t)descriptor - 1));
}

int64_t mmw_fcntl(int fd, int command, int argument)
{
    int result = fcntl(fd, command, argument);
    return result < 0 ? MMW_FAILED(MMW_CALL_FCNTL) : result;
}
