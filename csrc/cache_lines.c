/* CPU cache lines, written back to memory and dropped: for devices and persistent memory that do
 * not see the caches. */

#include "access.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <emmintrin.h>

static uint64_t line_size(void)
{
    unsigned eax, ebx, ecx, edx;
    /* Leaf 1: EBX bits 15-8 are the bytes that clflush works on, in units of 8. */
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) ? ((ebx >> 8) & 0xFF) * 8 : 64;
}

static void flush_line(const char *line) { _mm_clflush(line); }

static void wait_for_flushes(void) { _mm_mfence(); }

#elif defined(__aarch64__)

static uint64_t line_size(void)
{
    uint64_t type;
    __asm__("mrs %0, ctr_el0" : "=r"(type));
    return UINT64_C(4) << ((type >> 16) & 0xF); /* DminLine: log2 of the words in a line */
}

static void flush_line(const char *line)
{
    __asm__ volatile("dc civac, %0" ::"r"(line) : "memory");
}

static void wait_for_flushes(void) { __asm__ volatile("dsb sy" ::: "memory"); }

#else

static uint64_t line_size(void) { return 0; }

static void flush_line(const char *line) { (void)line; }

static void wait_for_flushes(void) {}

#endif

int64_t mmw_flush_lines(mmw_pages *pages, uint64_t offset, uint64_t count)
{
    int64_t refused = mmw_check_access(pages, offset, count, PROT_READ);
    if (refused) return refused;
    uint64_t line = line_size();
    if (line == 0) return MMW_REFUSED(MMW_NO_LINE_FLUSH);
    if (count == 0) return 0;
    uintptr_t begin = (uintptr_t)pages->base + offset;
    uintptr_t end = begin + count;
    mmw_access access;
    MMW_ACCESS(&access, pages, PROT_READ, NULL, count);
    for (uintptr_t at = begin & ~(uintptr_t)(line - 1); at < end; at += line)
        flush_line((const char *)at);
    wait_for_flushes();
    return mmw_access_end(&access, 0);
}
