/* The peers that are C. The compiler includes this file and cffi parses it. Those that return
 * a double do `loops` times what their name says, and return the seconds that it took. */

double peer_map_close(size_t size, int fd, long loops);
double peer_madvise_normal(uintptr_t address, size_t size, long loops);
double peer_msync(uintptr_t address, size_t size, long loops);
double peer_lock_unlock(uintptr_t address, size_t size, long loops);
double peer_memcpy(uintptr_t to, uintptr_t from, size_t size, long loops);
double peer_memcmp(uintptr_t left, uintptr_t right, size_t size, long loops);
double peer_read(uintptr_t from, size_t size, long loops);

/* Two threads, each of which copies `size` bytes. */
double peer_memcpy_two(uintptr_t to, uintptr_t from, uintptr_t other_to, uintptr_t other_from,
                       size_t size);

/* Segments of a page, on every second page of a new reservation, all added and then all removed. */
double peer_segments(size_t segments);

/* Called from Python, one by one. */
uint32_t peer_load_u32(uintptr_t address, size_t offset);
void peer_store_u32(uintptr_t address, size_t offset, uint32_t value);
int peer_compare(uintptr_t left, uintptr_t right, size_t size);
