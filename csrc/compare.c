/* Whether a range is all zeros, and whether two ranges are equal. */

#include "access.h"

#include <string.h>

#define ZEROS_BLOCK 256

MMW_WORK bool holds_only_zeros(const char *bytes, uint64_t count)
{
    while (count >= ZEROS_BLOCK) {
        uint64_t words[ZEROS_BLOCK / 8], found = 0;
        memcpy(words, bytes, ZEROS_BLOCK);
        for (size_t i = 0; i < ZEROS_BLOCK / 8; i++) found |= words[i];
        if (found) return false;
        bytes += ZEROS_BLOCK;
        count -= ZEROS_BLOCK;
    }
    for (; count > 0; bytes++, count--) {
        if (*bytes) return false;
    }
    return true;
}

int64_t mmw_is_all_zero(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, count);
    bool is_zero = holds_only_zeros(pages->base + offset, count);
    return mmw_access_end(&access, is_zero);
}

int64_t mmw_equals(mmw_pages *pages, uint64_t offset, uint64_t count, mmw_pages *other,
                   uint64_t other_offset)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (!refused) refused = mmw_check_access(other, other_offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS_BOTH(&access, pages, PROT_READ, other);
    bool is_equal = memcmp(pages->base + offset, other->base + other_offset, count) == 0;
    return mmw_access_end(&access, is_equal);
}
