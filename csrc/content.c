/* Copying in and out, guarded against pages that cannot be read in. */

#include "guard.h"

#include <string.h>

int64_t mmw_read(mmw_pages *pages, uint64_t offset, uint64_t count, char *into)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, into, count);
    memmove(into, pages->base + offset, count);
    return mmw_access_end(&access, (int64_t)count);
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

int64_t mmw_read_byte(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, 1);
    int64_t value = (unsigned char)pages->base[offset];
    return mmw_access_end(&access, value);
}

int64_t mmw_write_byte(mmw_pages *pages, uint64_t offset, uint64_t count, unsigned char value)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, 1);
    pages->base[offset] = (char)value;
    return mmw_access_end(&access, 0);
}
