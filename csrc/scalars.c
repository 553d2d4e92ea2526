/* Numbers of 1, 2, 4 and 8 bytes: copied whole, or by exactly one load or store of their width; and
 * many of them in a row, each by exactly one. */

#include "access.h"

#include <math.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WIDTH(mode) ((mode) & 0xF)

static uint64_t swapped(uint64_t bits, int width)
{
    switch (width) {
    case 2: return __builtin_bswap16((uint16_t)bits);
    case 4: return __builtin_bswap32((uint32_t)bits);
    case 8: return __builtin_bswap64(bits);
    default: return bits;
    }
}

/* The address is a multiple of the width. `volatile` keeps the compiler from joining this access
 * with others, from splitting it and from leaving it out. */
static inline uint64_t load_once(const char *from, int width)
{
    switch (width) {
    case 1: return *(const volatile uint8_t *)from;
    case 2: return *(const volatile uint16_t *)from;
    case 4: return *(const volatile uint32_t *)from;
    default: return *(const volatile uint64_t *)from;
    }
}

static inline void store_once(char *to, int width, uint64_t bits)
{
    switch (width) {
    case 1: *(volatile uint8_t *)to = (uint8_t)bits; break;
    case 2: *(volatile uint16_t *)to = (uint16_t)bits; break;
    case 4: *(volatile uint32_t *)to = (uint32_t)bits; break;
    default: *(volatile uint64_t *)to = bits; break;
    }
}

/* At any address, by as many accesses as the compiler takes. */
static inline uint64_t copy_out(const char *from, int width)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (width) {
    case 1: return *(const uint8_t *)from;
    case 2: memcpy(&two, from, 2); return two;
    case 4: memcpy(&four, from, 4); return four;
    default: memcpy(&eight, from, 8); return eight;
    }
}

static inline void copy_in(char *to, int width, uint64_t bits)
{
    uint16_t two = (uint16_t)bits;
    uint32_t four = (uint32_t)bits;
    switch (width) {
    case 1: *(uint8_t *)to = (uint8_t)bits; break;
    case 2: memcpy(to, &two, 2); break;
    case 4: memcpy(to, &four, 4); break;
    default: memcpy(to, &bits, 8); break;
    }
}

static bool is_misaligned(const mmw_pages *pages, uint64_t offset, int width)
{
    uint64_t address = (uint64_t)(uintptr_t)pages->base + offset;
    return (address & ((uint64_t)width - 1)) != 0;
}

static int64_t check_scalar(mmw_pages *pages, uint64_t offset, int mode, int need)
{
    int64_t refused = mmw_check_access(pages, offset, WIDTH(mode), need);
    if (refused || !(mode & MMW_VOLATILE)) return refused;
    return is_misaligned(pages, offset, WIDTH(mode)) ? MMW_REFUSED(MMW_MISALIGNED) : 0;
}

static int64_t load_bits(mmw_pages *pages, uint64_t offset, int mode, uint64_t *bits)
{
    int64_t refused = check_scalar(pages, offset, mode, PROT_READ);
    if (refused) return refused;
    const char *from = pages->base + offset;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, 0);
    *bits = mode & MMW_VOLATILE ? load_once(from, WIDTH(mode)) : copy_out(from, WIDTH(mode));
    if (mode & MMW_SWAPPED) *bits = swapped(*bits, WIDTH(mode));
    return mmw_access_end(&access, 0);
}

static int64_t store_bits(mmw_pages *pages, uint64_t offset, int mode, uint64_t bits)
{
    int64_t refused = check_scalar(pages, offset, mode, PROT_WRITE);
    if (refused) return refused;
    if (mode & MMW_SWAPPED) bits = swapped(bits, WIDTH(mode));
    char *to = pages->base + offset;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, 0);
    if (mode & MMW_VOLATILE)
        store_once(to, WIDTH(mode), bits);
    else
        copy_in(to, WIDTH(mode), bits);
    return mmw_access_end(&access, 0);
}

/* What a failed load returns. Numbers of fewer bits cannot be it; of those with 64 it is one in
 * 2**52 or more, drawn anew in each process, and the caller looks again by other means where it
 * sees it. */
static uint64_t failed_unsigned;
static double failed_float;

__attribute__((constructor)) static void draw_failed_values(void)
{
    /* glibc has getrandom since 2.25, and the wheels run on glibc 2.17 as well. */
    if (syscall(SYS_getrandom, &failed_unsigned, sizeof failed_unsigned, 0) !=
        sizeof failed_unsigned)
        failed_unsigned = (uintptr_t)&failed_unsigned * UINT64_C(0x9E3779B97F4A7C15);
    /* Outside the 32-bit ranges, signed and unsigned; and as a number from 1 to 2, no float. */
    failed_unsigned |= UINT64_C(1) << 62 | 1;
    uint64_t bits = UINT64_C(0x3FF) << 52 | failed_unsigned >> 12 | 1;
    memcpy(&failed_float, &bits, sizeof failed_float);
}

int64_t mmw_failed_signed(void) { return (int64_t)failed_unsigned; }

uint64_t mmw_failed_unsigned(void) { return failed_unsigned; }

double mmw_failed_float(void) { return failed_float; }

int64_t mmw_load_signed(mmw_pages *pages, uint64_t offset, int mode)
{
    uint64_t bits;
    if (load_bits(pages, offset, mode, &bits) != 0) return (int64_t)failed_unsigned;
    int unused = 64 - 8 * WIDTH(mode);
    return (int64_t)(bits << unused) >> unused;
}

uint64_t mmw_load_unsigned(mmw_pages *pages, uint64_t offset, int mode)
{
    uint64_t bits;
    return load_bits(pages, offset, mode, &bits) == 0 ? bits : failed_unsigned;
}

double mmw_load_float(mmw_pages *pages, uint64_t offset, int mode)
{
    uint64_t bits;
    if (load_bits(pages, offset, mode, &bits) != 0) return failed_float;
    if (WIDTH(mode) == 4) {
        uint32_t four = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &four, 4);
        return narrow;
    }
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

int64_t mmw_check_scalar(mmw_pages *pages, uint64_t offset, int mode)
{
    return check_scalar(pages, offset, mode, PROT_READ);
}

int64_t mmw_store_signed(mmw_pages *pages, uint64_t offset, int mode, int64_t value)
{
    int unused = 64 - 8 * WIDTH(mode);
    if ((int64_t)((uint64_t)value << unused) >> unused != value)
        return MMW_REFUSED(MMW_NO_SUCH_VALUE);
    return store_bits(pages, offset, mode, (uint64_t)value);
}

int64_t mmw_store_unsigned(mmw_pages *pages, uint64_t offset, int mode, uint64_t value)
{
    int unused = 64 - 8 * WIDTH(mode);
    if (value << unused >> unused != value) return MMW_REFUSED(MMW_NO_SUCH_VALUE);
    return store_bits(pages, offset, mode, value);
}

int64_t mmw_store_float(mmw_pages *pages, uint64_t offset, int mode, double value)
{
    uint64_t bits;
    if (WIDTH(mode) == 4) {
        float narrow = (float)value;
        if (isinf(narrow) && !isinf(value)) return MMW_REFUSED(MMW_NO_SUCH_VALUE);
        uint32_t four;
        memcpy(&four, &narrow, 4);
        bits = four;
    } else {
        memcpy(&bits, &value, 8);
    }
    return store_bits(pages, offset, mode, bits);
}

/* Each item of a range by one load, from the first to the last. */
MMW_WORK void load_items(char *into, const char *from, uint64_t count, int mode)
{
    int width = WIDTH(mode);
    for (uint64_t done = 0; done < count; done += (uint64_t)width) {
        uint64_t bits = load_once(from + done, width);
        copy_in(into + done, width, mode & MMW_SWAPPED ? swapped(bits, width) : bits);
    }
}

MMW_WORK void store_items(char *to, const char *source, uint64_t count, int mode)
{
    int width = WIDTH(mode);
    for (uint64_t done = 0; done < count; done += (uint64_t)width) {
        uint64_t bits = copy_out(source + done, width);
        store_once(to + done, width, mode & MMW_SWAPPED ? swapped(bits, width) : bits);
    }
}

/* `count` is a multiple of the width, and `into` memory that the caller has just made. */
int64_t mmw_load_many(mmw_pages *pages, uint64_t offset, uint64_t count, int mode, char *into)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    if (is_misaligned(pages, offset, WIDTH(mode))) return MMW_REFUSED(MMW_MISALIGNED);
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, 0);
    load_items(into, pages->base + offset, count, mode);
    return mmw_access_end(&access, 0);
}

/* The same, of `source`. */
int64_t mmw_store_many(mmw_pages *pages, uint64_t offset, uint64_t count, int mode,
                       const char *source)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_WRITE);
    if (refused) return refused;
    if (is_misaligned(pages, offset, WIDTH(mode))) return MMW_REFUSED(MMW_MISALIGNED);
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_WRITE, NULL, 0);
    store_items(pages->base + offset, source, count, mode);
    return mmw_access_end(&access, 0);
}
