/* Looking through a range: for a needle, for anything that is not zero, for a difference. None of
 * these reads a byte outside the range. */

#include "access.h"

#include <stdlib.h>
#include <string.h>

#define PLACES 64 /* looked at together */

/* What is looked for. Others may change the text, and even the needle, while it is compared: so nothing
 * that was seen once is relied on later. */
typedef struct {
    const char *bytes;
    uint64_t size;
    uint64_t apart;   /* which of its bytes is looked at besides the first */
    uint64_t in_vain; /* what was spent on comparing where it is not, in bytes */
    double pays;      /* how much of that pays for a place, before other means do better */
} sought;

/* Whether the needle may start at one of the next PLACES: two of its bytes are where they should be. */
static inline bool may_start(const char *starts, const char *others, char first, char other)
{
    unsigned char found = 0;
    for (size_t i = 0; i < PLACES; i++) found |= (starts[i] == first) & (others[i] == other);
    return found;
}

/* Where so many places begin that come next, once so many of all are passed. */
static inline uint64_t next_places(uint64_t some, uint64_t passed, uint64_t places, bool backwards)
{
    return backwards ? places - passed - some : passed;
}

/* How many places are passed, PLACES at a time, before the needle may start at one of the next. */
static inline uint64_t pass(const char *text, uint64_t passed, uint64_t places, const sought *needle,
                            bool backwards)
{
    char first = needle->bytes[0], other = needle->bytes[needle->apart];
    while (places - passed >= PLACES) {
        const char *starts = text + next_places(PLACES, passed, places, backwards);
        if (may_start(starts, starts + needle->apart, first, other)) break;
        passed += PLACES;
    }
    return passed;
}

/* How many of so many bytes two texts have in common, from the start. */
static uint64_t in_common(const char *one, const char *other, uint64_t size)
{
    uint64_t at = 0;
    while (size - at >= 64 && memcmp(one + at, other + at, 64) == 0) at += 64;
    while (size - at >= 8 && memcmp(one + at, other + at, 8) == 0) at += 8;
    while (at < size && one[at] == other[at]) at++;
    return at;
}

static bool is_at(const char *place, sought *needle)
{
    if (place[0] != needle->bytes[0] || place[needle->apart] != needle->bytes[needle->apart])
        return false;
    uint64_t same = in_common(place, needle->bytes, needle->size);
    if (same == needle->size) return true;
    /* Text that looks like the needle may do so again, and but for the same byte. */
    needle->apart = same;
    needle->in_vain += same + 8;
    return false;
}

static bool pays(const sought *needle, uint64_t places)
{
    return (double)needle->in_vain <= needle->pays * (double)places + 4096;
}

static void mark(unsigned char *marks, const char *starts, uint64_t places, const sought *needle)
{
    char first = needle->bytes[0], other = needle->bytes[needle->apart];
    const char *others = starts + needle->apart;
    for (uint64_t i = 0; i < places; i++)
        marks[i] = (unsigned char)((starts[i] == first) & (others[i] == other));
}

/* The match among at most PLACES that the search comes upon; NULL also where going on does not pay. */
static inline const char *match_among(const char *starts, uint64_t places, sought *needle,
                                      uint64_t passed, bool backwards)
{
    unsigned char marks[PLACES];
    mark(marks, starts, places, needle);
    needle->in_vain += places;
    for (uint64_t i = 0; i < places && pays(needle, passed); i++) {
        uint64_t at = next_places(1, i, places, backwards);
        if (i % 8 == 0 && places - i >= 8 &&
            memcmp(marks + next_places(8, i, places, backwards), "\0\0\0\0\0\0\0", 8) == 0)
            i += 7;
        else if (marks[at] && is_at(starts + at, needle))
            return starts + at;
    }
    return NULL;
}

/* The first match, or backwards the last. As long as few places look like one they are ruled out many at
 * a time; where many do, other means have to look at the places that are `left`. */
static inline const char *match(const char *text, uint64_t places, sought *needle, bool backwards,
                                uint64_t *left)
{
    *left = 0;
    for (uint64_t passed = 0; (passed = pass(text, passed, places, needle, backwards)) < places;) {
        uint64_t some = places - passed < PLACES ? places - passed : PLACES;
        const char *starts = text + next_places(some, passed, places, backwards);
        const char *found = match_among(starts, some, needle, passed, backwards);
        if (found != NULL) return found;
        if (!pays(needle, passed)) {
            *left = places - passed;
            return NULL;
        }
        passed += some;
    }
    return NULL;
}

/* The first match; memmem needs time for the size of both at worst. */
MMW_WORK const char *first_match(const char *text, uint64_t count, const char *bytes, uint64_t size)
{
    if (size < 2 || size > count) return memmem(text, count, bytes, size);
    sought needle = {bytes, size, size - 1, 0, 0.125};
    uint64_t places = count - size + 1, left;
    const char *found = match(text, places, &needle, false, &left);
    if (left == 0) return found;
    return memmem(text + places - left, left + size - 1, bytes, size);
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

/* The search of Knuth, Morris and Pratt run from the back, linear in both sizes. While nothing is
 * matched, memrchr finds the next place where the needle's last byte is. */
MMW_WORK const char *last_match_in_time(const char *start, uint64_t count, reversed_needle *needle)
{
    prepare(needle);
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

/* The last match; `left` is how many places may still hold it. */
MMW_WORK const char *last_match(const char *text, uint64_t places, sought *needle, uint64_t *left)
{
    if (needle->size > 1) return match(text, places, needle, true, left);
    *left = 0;
    return memrchr(text, *needle->bytes, places);
}

static int64_t search_backwards(mmw_pages *pages, uint64_t offset, uint64_t places, sought *needle,
                                uint64_t *left)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle->bytes, needle->size);
    const char *found = last_match(pages->base + offset, places, needle, left);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

static int64_t search_backwards_in_time(mmw_pages *pages, uint64_t offset, uint64_t count,
                                        reversed_needle *needle)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle->last - (needle->size - 1), needle->size);
    const char *found = last_match_in_time(pages->base + offset, count, needle);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

int64_t mmw_rfind(mmw_pages *pages, uint64_t offset, uint64_t count, const char *bytes, uint64_t size)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    if (size > count) return 0;
    if (size == 0) return (int64_t)(offset + count) + 1;
    sought needle = {bytes, size, size - 1, 0, 3};
    uint64_t left = 0;
    int64_t result = search_backwards(pages, offset, count - size + 1, &needle, &left);
    if (result != 0 || left == 0) return result;
    reversed_needle reversed = {bytes + size - 1, size, calloc(size, sizeof(uint64_t))};
    if (reversed.kept == NULL) return MMW_FAILED(MMW_CALL_MALLOC);
    result = search_backwards_in_time(pages, offset, left + size - 1, &reversed);
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
    MMW_ACCESS_BOTH(&access, pages, PROT_READ, other);
    bool is_equal = memcmp(pages->base + offset, other->base + other_offset, count) == 0;
    return mmw_access_end(&access, is_equal);
}
