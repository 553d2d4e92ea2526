/* What the same work costs in C: bare system calls, copies and scans, without a check. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* The compiler must take memory for changed, or it would do all but the first loop away. */
#define MEMORY_CHANGED() __asm__ volatile("" ::: "memory")

static void must(int condition)
{
    if (!condition) abort(); /* a call that fails is no measure of one that works */
}

double peer_map_close(size_t size, int fd, long loops)
{
    int flags = MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0);
    double start = now();
    for (long i = 0; i < loops; i++) {
        void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
        must(at != MAP_FAILED && munmap(at, size) == 0);
    }
    return now() - start;
}

double peer_madvise_normal(uintptr_t address, size_t size, long loops)
{
    double start = now();
    for (long i = 0; i < loops; i++) must(madvise((void *)address, size, MADV_NORMAL) == 0);
    return now() - start;
}

double peer_msync(uintptr_t address, size_t size, long loops)
{
    double start = now();
    for (long i = 0; i < loops; i++) must(msync((void *)address, size, MS_SYNC) == 0);
    return now() - start;
}

double peer_lock_unlock(uintptr_t address, size_t size, long loops)
{
    double start = now();
    for (long i = 0; i < loops; i++) {
        must(mlock((void *)address, size) == 0);
        must(munlock((void *)address, size) == 0);
    }
    return now() - start;
}

double peer_memcpy(uintptr_t to, uintptr_t from, size_t size, long loops)
{
    double start = now();
    for (long i = 0; i < loops; i++) {
        memcpy((void *)to, (const void *)from, size);
        MEMORY_CHANGED();
    }
    return now() - start;
}

double peer_memcmp(uintptr_t left, uintptr_t right, size_t size, long loops)
{
    double start = now();
    for (long i = 0; i < loops; i++) {
        must(memcmp((const void *)left, (const void *)right, size) == 0);
        MEMORY_CHANGED();
    }
    return now() - start;
}

double peer_read(uintptr_t from, size_t size, long loops)
{
    const uint64_t *words = (const uint64_t *)from;
    double start = now();
    for (long i = 0; i < loops; i++) {
        uint64_t found = 0;
        for (size_t word = 0; word < size / sizeof *words; word++) found |= words[word];
        must(found == 0);
        MEMORY_CHANGED();
    }
    return now() - start;
}

typedef struct {
    uintptr_t to, from;
    size_t size;
} copy_job;

static void *copy(void *argument)
{
    const copy_job *job = argument;
    memcpy((void *)job->to, (const void *)job->from, job->size);
    return NULL;
}

double peer_memcpy_two(uintptr_t to, uintptr_t from, uintptr_t other_to, uintptr_t other_from,
                       size_t size)
{
    copy_job jobs[2] = {{to, from, size}, {other_to, other_from, size}};
    pthread_t threads[2];
    double start = now();
    for (int i = 0; i < 2; i++) must(pthread_create(&threads[i], NULL, copy, &jobs[i]) == 0);
    for (int i = 0; i < 2; i++) must(pthread_join(threads[i], NULL) == 0);
    return now() - start;
}

double peer_segments(size_t segments)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 2 * segments * page;
    int reserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *base = mmap(NULL, size, PROT_NONE, reserved, -1, 0);
    must(base != MAP_FAILED);
    double start = now();
    for (size_t i = 0; i < segments; i++)
        must(mmap(base + 2 * i * page, page, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED);
    for (size_t i = 0; i < segments; i++)
        must(mmap(base + 2 * i * page, page, PROT_NONE, reserved | MAP_FIXED, -1, 0) != MAP_FAILED);
    double seconds = now() - start;
    must(munmap(base, size) == 0);
    return seconds;
}

uint32_t peer_load_u32(uintptr_t address, size_t offset)
{
    return *(const volatile uint32_t *)(address + offset);
}

void peer_store_u32(uintptr_t address, size_t offset, uint32_t value)
{
    *(volatile uint32_t *)(address + offset) = value;
}

int peer_compare(uintptr_t left, uintptr_t right, size_t size)
{
    return memcmp((const void *)left, (const void *)right, size);
}
