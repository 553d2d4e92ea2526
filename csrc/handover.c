/* Pages that move to a record of their own (resize.c), and the region that gets the record.
 *
 * The two are one step. Between two steps of Python code a signal handler may raise, and nobody
 * would own the pages that have moved: the content of private memory would be lost. */

#include "python.h"

/* The owner's attribute `handle` becomes that of the new record. */
static PyObject *move_pages(PyObject *module, PyObject *arguments)
{
    PyObject *owner, *handle;
    unsigned long long from, to, size;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOKKK", &owner, &handle, &from, &to, &size)) return NULL;
    int64_t result;
    Py_BEGIN_ALLOW_THREADS;
    result = mmw_move((mmw_pages *)(uintptr_t)from, (mmw_pages *)(uintptr_t)to, size);
    Py_END_ALLOW_THREADS;
    bool has_moved = mmw_mapped_size((mmw_pages *)(uintptr_t)to) != 0;
    if (has_moved && PyObject_SetAttrString(owner, "handle", handle) != 0) return NULL;
    return PyLong_FromLongLong(result);
}

static PyMethodDef move_pages_method = {
    "move_pages", move_pages, METH_VARARGS,
    "move_pages(owner, handle, from, to, size)\n--\n\nMove pages; return C's result."};

int mmw_add_handover(PyObject *list) { return mmw_add_function(list, &move_pages_method); }
