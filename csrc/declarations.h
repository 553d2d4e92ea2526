/* What Python can call. The compiler includes this file and cffi parses it, so it holds
 * declarations only. The kernel's constants are in constants.h.
 *
 * Every helper is one crossing from Python: it checks its range, does its system calls and
 * reports. A result that is not negative is the answer. A negative one is the failure:
 * -(call << 12 | errno) for a system call, -refusal where the library itself said no. For a page
 * that could not be read in, it is -(MMW_FAULT_FLAG | the page's offset); pages.h. */

typedef struct mmw_pages mmw_pages;

/* A range of a region as a file: where it is read next, where it begins in the region, and how many
 * bytes it has at most. */
typedef struct mmw_file {
    uint64_t position, start, count;
} mmw_file;

/* What owns a descriptor. */
typedef struct mmw_descriptor mmw_descriptor;

/* A guard that may be entered. */
typedef struct mmw_guard mmw_guard;

/* What fstat(2) says of a file. The length of a block device is that of the device. */
typedef struct mmw_file_status {
    uint64_t size, device, inode;
    uint32_t mode;
} mmw_file_status;

enum mmw_call {
    MMW_CALL_MMAP = 1,
    MMW_CALL_MUNMAP,
    MMW_CALL_MPROTECT,
    MMW_CALL_MADVISE,
    MMW_CALL_MSYNC,
    MMW_CALL_MLOCK,
    MMW_CALL_MLOCK2,
    MMW_CALL_MUNLOCK,
    MMW_CALL_MINCORE,
    MMW_CALL_PRCTL,
    MMW_CALL_FDATASYNC,
    MMW_CALL_POSIX_FADVISE,
    MMW_CALL_SIGACTION,
    MMW_CALL_MALLOC,
    MMW_CALL_MEMCPY,
    MMW_CALL_READ,
    MMW_CALL_WRITE,
    MMW_CALL_MREMAP,
    MMW_CALL_MEMFD_CREATE,
    MMW_CALL_FTRUNCATE,
    MMW_CALL_FALLOCATE,
    MMW_CALL_FCNTL,
    MMW_CALL_FSTAT,
    MMW_CALL_OPEN,
    MMW_CALL_CLOSE,
    MMW_CALL_READLINK,
    MMW_CALL_UNLINK,
    MMW_CALL_RENAME,
};

enum mmw_refusal {
    MMW_CLOSED = 1,
    MMW_FAULTED,
    MMW_OUT_OF_RANGE,
    MMW_START_NOT_ON_PAGE,
    MMW_END_NOT_ON_PAGE,
    MMW_NOT_READABLE,
    MMW_NOT_WRITABLE,
    MMW_SIZE_OVERFLOW,
    MMW_MISALIGNED,
    MMW_NO_SUCH_VALUE, /* the number does not fit into the bytes of the scalar */
    MMW_NO_LINE_FLUSH, /* this processor has no flush of a cache line */
    MMW_NO_SIZE,       /* the size is to be the rest of a file, which has no length */
    MMW_PAST_END,
    MMW_NOT_GROWABLE,
    MMW_MOVED, /* the pages have gone to another record, which the region has by now */
    MMW_PAST_CAPACITY,
    MMW_CONTENT_LOST,  /* the kernel refused after it had unmapped the range: reserved now */
    MMW_UNRECOVERABLE, /* a guard could not set the lost pages aside */
};

/* How a scalar is accessed: its width in bytes, and these. */
enum mmw_mode {
    MMW_VOLATILE = 16,
    MMW_SWAPPED = 32,
};

/* What mmw_map does besides: reads all pages in; and maps only what the file has, if it has a
 * length: the rest of it where the size is 0. */
enum mmw_map_option {
    MMW_POPULATE = 1,
    MMW_IN_FILE = 2,
};

/* mapping.c: pages that are mapped and unmapped, and the files and sizes behind them.
 * The record is made first, and without pages, so that there are none that nobody owns: while the
 * kernel maps them, or reads them in, a signal may come whose handler raises as the call returns.
 */
int64_t mmw_map(mmw_pages *pages, uint64_t address, uint64_t size, uint64_t align, int prot,
                int flags, int fd, uint64_t file_offset, uint64_t capacity, int options);
int64_t mmw_borrow(mmw_pages *pages, uint64_t address, uint64_t size, int prot);
uint64_t mmw_address(mmw_pages *pages);
uint64_t mmw_size(mmw_pages *pages);
int64_t mmw_check_range(mmw_pages *pages, uint64_t offset, uint64_t count);
int mmw_is_open(mmw_pages *pages);
int64_t mmw_check_pages(mmw_pages *pages, uint64_t offset, uint64_t count);
int64_t mmw_protect(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int common);
int64_t mmw_name(mmw_pages *pages, const char *name);
uint64_t mmw_page_size_of(mmw_pages *pages);
uint64_t mmw_mapped_size(mmw_pages *pages);
uint64_t mmw_file_page_size(int fd);
int64_t mmw_fstat(int fd, mmw_file_status *status);

/* resize.c: the size of a region that grows and shrinks, and of its file. */
int64_t mmw_resize(mmw_pages *pages, uint64_t size);
int64_t mmw_protect_room(mmw_pages *pages, uint64_t end, int prot);
int64_t mmw_lock_room(mmw_pages *pages, uint64_t end, int is_locked);
int64_t mmw_extend_file(int fd, uint64_t start, uint64_t end, int allocate);
int64_t mmw_cut_file(int fd, uint64_t end, uint64_t old_end);

/* paging.c: what the kernel is told and asked about pages. */
int mmw_advice_is_known(int advice);
int64_t mmw_advise(mmw_pages *pages, uint64_t offset, uint64_t count, int advice);
int64_t mmw_advise_destructive(mmw_pages *pages, uint64_t offset, uint64_t count, int advice);
int64_t mmw_remove(mmw_pages *pages, uint64_t offset, uint64_t count);
int64_t mmw_msync(mmw_pages *pages, uint64_t offset, uint64_t count, int flags);
int64_t mmw_lock(mmw_pages *pages, uint64_t offset, uint64_t count, int flags);
int64_t mmw_unlock(mmw_pages *pages, uint64_t offset, uint64_t count);
int64_t mmw_populate(mmw_pages *pages, uint64_t offset, uint64_t count, int write);
int64_t mmw_residency(mmw_pages *pages, uint64_t offset, uint64_t count, char *flags);
int64_t mmw_tells_residency(mmw_pages *pages, uint64_t offset, uint64_t count);
uint64_t mmw_count_resident(const char *flags, uint64_t count);
int64_t mmw_evict(mmw_pages *pages, uint64_t offset, uint64_t count, int fd, uint64_t file_offset);

/* content.c: copying in and out, guarded against pages that cannot be read in. */
int64_t mmw_read(mmw_pages *pages, uint64_t offset, uint64_t count, char *into);
int64_t mmw_read_new(mmw_pages *pages, uint64_t offset, uint64_t count, char *into);
int64_t mmw_read_steps(mmw_pages *pages, uint64_t offset, uint64_t count, char *into, int64_t step);
int64_t mmw_write(mmw_pages *pages, uint64_t offset, uint64_t count, const char *source);
int64_t mmw_write_steps(mmw_pages *pages, uint64_t offset, uint64_t count, const char *source,
                        int64_t step);
int64_t mmw_read_byte(mmw_pages *pages, uint64_t offset);
int64_t mmw_write_byte(mmw_pages *pages, uint64_t offset, unsigned char value);

int64_t mmw_fill(mmw_pages *pages, uint64_t offset, uint64_t count, unsigned char value);
int64_t mmw_copy(mmw_pages *pages, uint64_t offset, uint64_t count, mmw_pages *target,
                 uint64_t target_offset);
int64_t mmw_read_from_fd(mmw_pages *pages, uint64_t offset, uint64_t count, int fd,
                         int64_t file_offset);
int64_t mmw_write_to_fd(mmw_pages *pages, uint64_t offset, uint64_t count, int fd,
                        int64_t file_offset);
int mmw_keeps_messages_apart(int fd);

/* file.c: a region as a file. The copies move the position by what they copy, and move it back
 * where they fail. */
uint64_t mmw_file_size(mmw_pages *pages, const mmw_file *file);
int mmw_file_move(mmw_file *file, uint64_t from, uint64_t to);
int64_t mmw_file_read(mmw_pages *pages, mmw_file *file, char *into, uint64_t count);
int64_t mmw_file_write(mmw_pages *pages, mmw_file *file, const char *source, uint64_t count);

/* scalars.c: numbers. A failed load returns what mmw_failed_... does; mmw_check_scalar says why. */
int64_t mmw_failed_signed(void);
uint64_t mmw_failed_unsigned(void);
double mmw_failed_float(void);
int64_t mmw_check_scalar(mmw_pages *pages, uint64_t offset, int mode);
int64_t mmw_load_signed(mmw_pages *pages, uint64_t offset, int mode);
uint64_t mmw_load_unsigned(mmw_pages *pages, uint64_t offset, int mode);
double mmw_load_float(mmw_pages *pages, uint64_t offset, int mode);
int64_t mmw_store_signed(mmw_pages *pages, uint64_t offset, int mode, int64_t value);
int64_t mmw_store_unsigned(mmw_pages *pages, uint64_t offset, int mode, uint64_t value);
int64_t mmw_store_float(mmw_pages *pages, uint64_t offset, int mode, double value);
int64_t mmw_load_many(mmw_pages *pages, uint64_t offset, uint64_t count, int mode, char *into);
int64_t mmw_store_many(mmw_pages *pages, uint64_t offset, uint64_t count, int mode,
                       const char *source);

/* find.c, compare.c: looking through a range. The finders answer 1 + the offset, or 0; of what is
 * counted no two overlap. */
int64_t mmw_find(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                 uint64_t needle_size);
int64_t mmw_rfind(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                  uint64_t needle_size);
int64_t mmw_count(mmw_pages *pages, uint64_t offset, uint64_t count, const char *needle,
                  uint64_t needle_size);
int64_t mmw_is_all_zero(mmw_pages *pages, uint64_t offset, uint64_t count);
int64_t mmw_equals(mmw_pages *pages, uint64_t offset, uint64_t count, mmw_pages *other,
                   uint64_t other_offset);

/* exporter.c */
int64_t mmw_new_bytes(uintptr_t list, uint64_t count);
int64_t mmw_python_types(uintptr_t list);

/* cache_lines.c */
int64_t mmw_flush_lines(mmw_pages *pages, uint64_t offset, uint64_t count);

/* placing.c: an arena's mappings. */
int64_t mmw_reserve(mmw_pages *pages, uint64_t offset, uint64_t count);
int64_t mmw_place(mmw_pages *pages, uint64_t offset, uint64_t count, int prot, int flags, int fd,
                  uint64_t file_offset, int replaces);
int64_t mmw_become_arena(mmw_pages *pages);

/* memfd.c: descriptors and shared memory. */
int64_t mmw_create_memfd(mmw_descriptor *owner, const char *name, int64_t size, int allocate);
int64_t mmw_duplicate(mmw_descriptor *owner, int fd);
int64_t mmw_own(mmw_descriptor *owner, int fd);
int64_t mmw_open(mmw_descriptor *owner, const char *path, int flags, int mode);
int64_t mmw_unlink(const char *path);
int64_t mmw_rename(const char *path, const char *name);
int64_t mmw_close(mmw_descriptor *owner);
int64_t mmw_fcntl(int fd, int command, int argument);
int64_t mmw_readlink(const char *path, char *target, uint64_t size);
int64_t mmw_read_file(int fd, char *into, uint64_t count);

/* guard.c, guard_entry.c: pages that could not be read in. */
int64_t mmw_guard_enter(mmw_guard *guard, mmw_pages *pages);
int64_t mmw_guard_leave(mmw_guard *guard);
int64_t mmw_recover(mmw_pages *pages);
uint64_t mmw_fault_offset(mmw_pages *pages);
uint64_t mmw_fault_pages(mmw_pages *pages);
uint64_t mmw_fault_address(mmw_pages *pages);
