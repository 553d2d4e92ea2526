/* The kernel's constants that Python gets. Each one is written in this file only: build_ffi.py
 * reads the names from here, and the compiler supplies the values.
 *
 * A constant that all supported headers have is an entry of MMW_CONSTANTS. A newer constant has a
 * fallback instead, for older headers. The value of a fallback is the kernel's ABI; whether the
 * running kernel knows the constant is asked at run time. A constant that only C needs does not
 * belong here; its fallback is in the file that uses it. */

#ifndef MMAPWRAP_CONSTANTS_H
#define MMAPWRAP_CONSTANTS_H

#include <fcntl.h>
#include <sys/mman.h>

/* For build_ffi.py; nothing to the compiler. */
#define MMW_CONSTANTS(...)

MMW_CONSTANTS(PROT_READ, PROT_WRITE, PROT_EXEC)

MMW_CONSTANTS(MAP_SHARED, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE, MAP_FIXED)
#ifndef MAP_FIXED_NOREPLACE /* Linux 4.17 */
#define MAP_FIXED_NOREPLACE 0x100000
#endif

MMW_CONSTANTS(MS_SYNC, MS_ASYNC, MS_INVALIDATE)

#ifndef MLOCK_ONFAULT /* Linux 4.4 */
#define MLOCK_ONFAULT 0x01
#endif

MMW_CONSTANTS(F_ADD_SEALS, F_GET_SEALS, F_GETFL, F_SETFD, FD_CLOEXEC)
MMW_CONSTANTS(F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE)
#ifndef F_SEAL_FUTURE_WRITE /* Linux 5.1 */
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef F_SEAL_EXEC /* Linux 6.3 */
#define F_SEAL_EXEC 0x0020
#endif

MMW_CONSTANTS(MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTNEED, MADV_REMOVE)
MMW_CONSTANTS(MADV_DONTFORK, MADV_DOFORK, MADV_MERGEABLE, MADV_UNMERGEABLE)
MMW_CONSTANTS(MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTDUMP, MADV_DODUMP)
#ifndef MADV_FREE /* Linux 4.5 */
#define MADV_FREE 8
#endif
#ifndef MADV_WIPEONFORK /* Linux 4.14 */
#define MADV_WIPEONFORK 18
#define MADV_KEEPONFORK 19
#endif
#ifndef MADV_COLD /* Linux 5.4 */
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED /* Linux 5.18 */
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE /* Linux 6.1 */
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_GUARD_INSTALL /* Linux 6.13 */
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

#endif
