/* Looking through a range: for a needle, for anything that is not zero, for a difference. None of
 * these reads a byte outside the range. */

#include "guard.h"

#include <stdlib.h>
#include <string.h>

#define PLACES 64 /* looked at together */

/* Whether a needle may start at one of the next places: two of its bytes are where they should be. */
static bool may_start(const char *starts, const char *others, char first, char other)
{
    unsigned char found = 0;
    for (size_t i = 0; i < PLACES; i++) found |= (starts[i] == first) & (others[i] == other);
    return found;
}

/* Where two texts differ that do. */
static uint64_t first_difference(const char *one, const char *other)
{
    uint64_t at = 0;
    while (one[at] == other[at]) at++;
    return at;
}

/* The next place, up to `last`, from which on the needle may start. */
static uint64_t pass_over(const char *text, uint64_t at, uint64_t last, const char *needle,
                          uint64_t apart)
{
    char first = needle[0], other = needle[apart];
    while (at <= last && !may_start(text + at, text + at + apart, first, other)) at += PLACES;
    return at;
}

/* The first match. As long as few places look like one they are ruled out many at a time; where many do,
 * memmem goes on, which needs time for the size of both at worst. */
MMW_WORK const char *first_match(const char *text, uint64_t count, const char *needle, uint64_t size)
{
    uint64_t at = 0, in_vain = 0;
    if (size >= 2 && count >= size + PLACES) {
        uint64_t last = count - size - PLACES, apart = size - 1;
        while ((at = pass_over(text, at, last, needle, apart)) <= last && in_vain <= at / 8 + 4096) {
            in_vain += PLACES;
            for (const char *start = text + at; start < text + at + PLACES; start++) {
                if (start[0] != needle[0] || start[apart] != needle[apart]) continue;
                if (memcmp(start, needle, size) == 0) return start;
                in_vain += size;
                /* Text that looks like the needle may do so again, and but for the same byte. */
                apart = first_difference(start, needle);
            }
            at += PLACES;
        }
    }
    return memmem(text + at, count - at, needle, size);
}

int64_t mmw_find(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                 uint64_t needle_size)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle, needle_size);
    const char *found = first_match(pages->base + offset, count, needle, needle_size);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

/* A needle that is matched from its last byte on. */
typedef struct {
    const char *last;
    uint64_t size;
    uint64_t *kept; /* after i + 1 matched bytes and a mismatch, how many still match */
} reversed_needle;

static char needle_byte(const reversed_needle *needle, uint64_t index)
{
    return *(needle->last - index);
}

static void prepare(reversed_needle *needle)
{
    needle->kept[0] = 0;
    for (uint64_t i = 1, kept = 0; i < needle->size; i++) {
        char byte = needle_byte(needle, i);
        while (kept > 0 && byte != needle_byte(needle, kept)) kept = needle->kept[kept - 1];
        if (byte == needle_byte(needle, kept)) kept++;
        needle->kept[i] = kept;
    }
}

/* The last match: the search of Knuth, Morris and Pratt run from the back, linear in both sizes. While
 * nothing is matched, memrchr finds the next place where the needle's last byte is. */
MMW_WORK const char *last_match(const char *start, uint64_t count, const reversed_needle *needle)
{
    const char *at = start + count;
    uint64_t matched = 0;
    while (matched < needle->size) {
        if (matched == 0) {
            at = memrchr(start, *needle->last, (size_t)(at - start));
            if (at == NULL) return NULL;
            matched = 1;
            continue;
        }
        if (at == start) return NULL;
        char byte = *--at;
        while (matched > 0 && byte != needle_byte(needle, matched))
            matched = needle->kept[matched - 1];
        if (byte == needle_byte(needle, matched)) matched++;
    }
    return at;
}

static int64_t search_backwards(mmw_pages *pages, uint64_t offset, uint64_t count,
                                reversed_needle *needle)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle->last - (needle->size - 1), needle->size);
    prepare(needle);
    const char *found = last_match(pages->base + offset, count, needle);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

int64_t mmw_rfind(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                  uint64_t needle_size)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    if (needle_size > count) return 0;
    if (needle_size == 0) return (int64_t)(offset + count) + 1;
    reversed_needle reversed = {needle + needle_size - 1, needle_size,
                                calloc(needle_size, sizeof(uint64_t))};
    if (reversed.kept == NULL) return MMW_FAILED(MMW_CALL_MALLOC);
    int64_t result = search_backwards(pages, offset, count, &reversed);
    free(reversed.kept);
    return result;
}

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
    MMW_ACCESS_BOTH(&access, pages, PROT_READ, other, count);
    bool is_equal = memcmp(pages->base + offset, other->base + other_offset, count) == 0;
    return mmw_access_end(&access, is_equal);
}
