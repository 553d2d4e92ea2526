/* Python's own memory. The module that cffi generates includes this, and nothing else does, because it
 * needs Python's headers as they are set up there. */

#ifndef MMAPWRAP_NEW_BYTES_H
#define MMAPWRAP_NEW_BYTES_H

#include "pages.h"

/* Appends a new bytes object to a list of Python's, which is given by its address. Its content is what
 * the memory held before: Python itself could only clear it, which for much takes long, with the GIL. */
int64_t mmw_new_bytes(uintptr_t list, uint64_t count)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count);
    bool is_kept = made != NULL && PyList_Append((PyObject *)list, made) == 0;
    if (!is_kept) PyErr_Clear();
    Py_XDECREF(made);
    PyGILState_Release(state);
    return is_kept ? 0 : MMW_FAILED_WITH(MMW_CALL_MALLOC, ENOMEM);
}

#endif
