/* Entering and leaving a guard: the handlers are in place, and the region is on the list that they
 * look through (guard.c). */

#include "access.h"
#include "guard.h"

#include <stdlib.h>

/* One entered guard: it keeps the record, and the pages until they are released. */
struct mmw_guard {
    mmw_pages *pages; /* NULL: not entered */
};

mmw_guard *mmw_new_guard(void) { return calloc(1, sizeof(mmw_guard)); }

int64_t mmw_guard_enter(mmw_guard *guard, mmw_pages *pages)
{
    int64_t refused = mmw_check(pages, 0, 0);
    if (!refused) refused = mmw_handlers_require();
    if (refused) return refused;
    mmw_lock_records();
    if (pages->is_moved) {
        mmw_unlock_records();
        return MMW_REFUSED(MMW_MOVED);
    }
    mmw_keep_spare(pages);
    if (!pages->is_guarded) mmw_link_guarded(pages);
    pages->guards++;
    guard->pages = pages;
    mmw_unlock_records();
    return 0;
}

/* Once it returns, no handler is at work on the region for this guard's sake. */
int64_t mmw_guard_leave(mmw_guard *guard)
{
    mmw_pages *pages = guard->pages;
    if (pages == NULL) return 0;
    guard->pages = NULL;
    mmw_lock_records();
    bool is_last = --pages->guards == 0;
    MMW_NEXT_STEP();
    if (is_last && pages->is_guarded) mmw_unlink_guarded(pages);
    bool is_faulted = atomic_load(&pages->fault_pages) != 0;
    bool is_free = is_last && pages->is_released;
    mmw_unlock_records();
    if (is_free) free(pages);
    return is_faulted ? MMW_REFUSED(MMW_FAULTED) : 0;
}

/* A guard that was not left, because an interruption came between its steps, ends here. */
void mmw_free_guard(mmw_guard *guard)
{
    (void)mmw_guard_leave(guard);
    free(guard);
}
