/* Python's own interface, for what cffi cannot do. The stable one, where there is one. */

#ifndef MMAPWRAP_PYTHON_H
#define MMAPWRAP_PYTHON_H

#include <Python.h>

#include "pages.h"

/* Adds the types of each file to a list of Python's. */
int mmw_add_exporters(PyObject *list);
int mmw_add_layout_lock(PyObject *list);
int mmw_add_handover(PyObject *list);
int mmw_add_owners(PyObject *list);

int mmw_add_function(PyObject *list, PyMethodDef *method);

#endif
