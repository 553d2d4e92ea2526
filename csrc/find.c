/* Looking for a needle in a range, from the front (find) and from the back (rfind).
 *
 * Both searches first run a packed-pair prefilter: at BLOCK places at a time the needle's first
 * byte and a second byte of it are compared, without a branch, so that the compiler makes vector
 * code of the loop. Where some place in a block has both bytes, its candidates are compared with
 * the needle. As long as few places are candidates, a search runs at the speed of memory.
 *
 * In text that looks like the needle everywhere ("aaaa..." for "aaab") the comparisons would take
 * the product of both sizes. So each search has a budget: comparing may waste so many bytes for
 * each place that was passed. When the budget is spent, the search leaves the `remaining` places to
 * an algorithm that takes the sum of both sizes at worst: from the front memmem(3), which is
 * two-way string matching; from the back the algorithm of Knuth, Morris and Pratt, run over the
 * reversed needle. The second byte of the prefilter is also moved to where the last candidate
 * differed, because the next one probably differs there too.
 *
 * Another process may change the text, and even the needle, during a search. No step relies on a
 * byte that an earlier step has read: a match is compared as a whole, and no index is computed from
 * content. No byte outside the range is read. */

#include "access.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 64 /* places that the prefilter looks at together */

/* The needle, and how the search for it has gone. */
typedef struct {
    const char *bytes;
    uint64_t size;
    uint64_t second; /* the index of the byte that the prefilter compares beside the first */
    uint64_t wasted; /* the bytes that were compared at places without a match */
    double budget;   /* the bytes that may be wasted for each place that is passed */
} needle_state;

/* Returns whether one of the next BLOCK places has both bytes of the pair. */
static inline bool has_candidate(const char *starts, const char *others, char first, char other)
{
    unsigned char found = 0;
    for (size_t i = 0; i < BLOCK; i++) found |= (starts[i] == first) & (others[i] == other);
    return found;
}

/* Returns the index of the first of the next `count` places, when `passed` of all are passed. */
static inline uint64_t block_start(uint64_t count, uint64_t passed, uint64_t places, bool backwards)
{
    return backwards ? places - passed - count : passed;
}

/* Passes whole blocks without a candidate; returns how many places are passed then. */
static inline uint64_t skip_blocks(const char *text, uint64_t passed, uint64_t places,
                                   const needle_state *needle, bool backwards)
{
    char first = needle->bytes[0], other = needle->bytes[needle->second];
    while (places - passed >= BLOCK) {
        const char *starts = text + block_start(BLOCK, passed, places, backwards);
        if (has_candidate(starts, starts + needle->second, first, other)) break;
        passed += BLOCK;
    }
    return passed;
}

/* Returns the length of the common prefix of two texts of this size. */
static uint64_t common_prefix(const char *one, const char *other, uint64_t size)
{
    uint64_t at = 0;
    while (size - at >= 64 && memcmp(one + at, other + at, 64) == 0) at += 64;
    while (size - at >= 8 && memcmp(one + at, other + at, 8) == 0) at += 8;
    while (at < size && one[at] == other[at]) at++;
    return at;
}

static bool matches_at(const char *place, needle_state *needle)
{
    if (place[0] != needle->bytes[0] || place[needle->second] != needle->bytes[needle->second])
        return false;
    uint64_t same = common_prefix(place, needle->bytes, needle->size);
    if (same == needle->size) return true;
    /* The next candidate probably differs at the same byte. */
    needle->second = same;
    needle->wasted += same + 8;
    return false;
}

static bool within_budget(const needle_state *needle, uint64_t places)
{
    return (double)needle->wasted <= needle->budget * (double)places + 4096;
}

static void mark_candidates(unsigned char *marks, const char *starts, uint64_t places,
                            const needle_state *needle)
{
    char first = needle->bytes[0], other = needle->bytes[needle->second];
    const char *others = starts + needle->second;
    for (uint64_t i = 0; i < places; i++)
        marks[i] = (unsigned char)((starts[i] == first) & (others[i] == other));
}

/* Returns the first match, in the direction of the search, among at most BLOCK places; NULL also
 * when the budget is spent. */
static inline const char *match_in_block(const char *starts, uint64_t places, needle_state *needle,
                                         uint64_t passed, bool backwards)
{
    unsigned char marks[BLOCK];
    mark_candidates(marks, starts, places, needle);
    needle->wasted += places;
    for (uint64_t i = 0; i < places && within_budget(needle, passed); i++) {
        uint64_t at = block_start(1, i, places, backwards);
        if (i % 8 == 0 && places - i >= 8 &&
            memcmp(marks + block_start(8, i, places, backwards), "\0\0\0\0\0\0\0", 8) == 0)
            i += 7;
        else if (marks[at] && matches_at(starts + at, needle))
            return starts + at;
    }
    return NULL;
}

/* Returns the first match in the direction of the search. NULL with `remaining` places: the budget
 * is spent, and another algorithm has to search those. */
static inline const char *match(const char *text, uint64_t places, needle_state *needle,
                                bool backwards, uint64_t *remaining)
{
    *remaining = 0;
    for (uint64_t passed = 0;
         (passed = skip_blocks(text, passed, places, needle, backwards)) < places;) {
        uint64_t count = places - passed < BLOCK ? places - passed : BLOCK;
        const char *starts = text + block_start(count, passed, places, backwards);
        const char *found = match_in_block(starts, count, needle, passed, backwards);
        if (found != NULL) return found;
        if (!within_budget(needle, passed)) {
            *remaining = places - passed;
            return NULL;
        }
        passed += count;
    }
    return NULL;
}

/* Returns the first match. */
MMW_WORK const char *first_match(const char *text, uint64_t count, const char *bytes, uint64_t size)
{
    if (size < 2 || size > count) return memmem(text, count, bytes, size);
    needle_state needle = {bytes, size, size - 1, 0, 0.125};
    uint64_t places = count - size + 1, remaining;
    const char *found = match(text, places, &needle, false, &remaining);
    if (remaining == 0) return found;
    return memmem(text + places - remaining, remaining + size - 1, bytes, size);
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

MMW_WORK uint64_t number_of_matches(const char *text, uint64_t count, const char *bytes,
                                    uint64_t size)
{
    if (size == 0) return count + 1;
    const char *end = text + count;
    uint64_t number = 0;
    while ((text = first_match(text, (uint64_t)(end - text), bytes, size)) != NULL) {
        number++;
        text += size;
    }
    return number;
}

int64_t mmw_count(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                  uint64_t needle_size)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle, needle_size);
    uint64_t number = number_of_matches(pages->base + offset, count, needle, needle_size);
    return mmw_access_end(&access, (int64_t)number);
}

/* A needle that is matched from its last byte to its first. */
typedef struct {
    const char *last;
    uint64_t size;
    uint64_t *failure; /* [i]: how many bytes still match after i + 1 matched and one did not */
} reversed_needle;

static char needle_byte(const reversed_needle *needle, uint64_t index)
{
    return *(needle->last - index);
}

static void prepare(reversed_needle *needle)
{
    needle->failure[0] = 0;
    for (uint64_t i = 1, failure = 0; i < needle->size; i++) {
        char byte = needle_byte(needle, i);
        while (failure > 0 && byte != needle_byte(needle, failure))
            failure = needle->failure[failure - 1];
        if (byte == needle_byte(needle, failure)) failure++;
        needle->failure[i] = failure;
    }
}

/* Returns the last match: Knuth-Morris-Pratt over the reversed needle. While no byte is
 * matched, memrchr finds the next place where the needle's last byte is. */
MMW_WORK const char *last_match_kmp(const char *start, uint64_t count, reversed_needle *needle)
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
            matched = needle->failure[matched - 1];
        if (byte == needle_byte(needle, matched)) matched++;
    }
    return at;
}

/* Returns the last match; `remaining`: how many places may still have it. */
MMW_WORK const char *last_match(const char *text, uint64_t places, needle_state *needle,
                                uint64_t *remaining)
{
    if (needle->size > 1) return match(text, places, needle, true, remaining);
    *remaining = 0;
    return memrchr(text, *needle->bytes, places);
}

static int64_t search_backwards(mmw_pages *pages, uint64_t offset, uint64_t places,
                                needle_state *needle, uint64_t *remaining)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle->bytes, needle->size);
    const char *found = last_match(pages->base + offset, places, needle, remaining);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

static int64_t search_backwards_kmp(mmw_pages *pages, uint64_t offset, uint64_t count,
                                    reversed_needle *needle)
{
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, needle->last - (needle->size - 1), needle->size);
    const char *found = last_match_kmp(pages->base + offset, count, needle);
    return mmw_access_end(&access, found == NULL ? 0 : found - pages->base + 1);
}

int64_t mmw_rfind(mmw_pages *pages, uint64_t offset, uint64_t count, const char *bytes,
                  uint64_t size)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    if (size > count) return 0;
    if (size == 0) return (int64_t)(offset + count) + 1;
    needle_state needle = {bytes, size, size - 1, 0, 3};
    uint64_t remaining = 0;
    int64_t result = search_backwards(pages, offset, count - size + 1, &needle, &remaining);
    if (result != 0 || remaining == 0) return result;
    reversed_needle reversed = {bytes + size - 1, size, calloc(size, sizeof(uint64_t))};
    if (reversed.failure == NULL) return MMW_FAILED(MMW_CALL_MALLOC);
    result = search_backwards_kmp(pages, offset, remaining + size - 1, &reversed);
    free(reversed.failure);
    return result;
}
