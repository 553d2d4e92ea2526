/* The buffer protocol, which Python code cannot implement before 3.12, and new bytes.
 *
 * `Exporter` is the base of every region. When a consumer asks a region for its buffer, the region
 * decides in Python (`_export`), and the buffer is that of an `Export`, which `_export` returns.
 * The consumer holds the Export, not the region: the region may be closed meanwhile.
 *
 * An `Export` shows one range of pages. It holds the handle of the pages, so they stay while any
 * buffer of it does, and also while a consumer that has released its buffer keeps the object that
 * it came from. It is counted in the dict of the region's views until it goes.
 *
 * Exporter has a release slot that does nothing, because NumPy takes a type with such a slot as one
 * whose buffers must be held. */

#include "python.h"

typedef struct {
    PyObject_HEAD
    char *start;
    Py_ssize_t size;
    int is_readonly;
    PyObject *handle; /* keeps the pages */
    PyObject *views;  /* a dict, which has this export under its address */
} export_object;

static PyTypeObject *export_type;

/* Python code cannot make one by the type, which `memoryview.obj` leads to: the address is any. */
static PyObject *new_export(PyObject *module, PyObject *arguments)
{
    PyObject *handle, *views;
    unsigned long long address;
    Py_ssize_t size;
    int is_readonly;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OKnpO", &handle, &address, &size, &is_readonly, &views))
        return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(export_type, Py_tp_alloc);
    export_object *self = (export_object *)allocate(export_type, 0);
    if (self == NULL) return NULL;
    self->start = (char *)(uintptr_t)address;
    self->size = size;
    self->is_readonly = is_readonly;
    Py_INCREF(handle);
    self->handle = handle;
    Py_INCREF(views);
    self->views = views;
    return (PyObject *)self;
}

static void forget_view(PyObject *export, PyObject *views)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *key = PyLong_FromVoidPtr(export);
    /* It is missing where an interruption came before it was counted. */
    if (key == NULL || PyDict_DelItem(views, key) != 0) PyErr_Clear();
    Py_XDECREF(key);
    PyErr_Restore(type, value, traceback);
}

static void export_dealloc(PyObject *object)
{
    export_object *self = (export_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    forget_view(object, self->views);
    Py_CLEAR(self->views);
    Py_CLEAR(self->handle);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static int export_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    export_object *self = (export_object *)object;
    return PyBuffer_FillInfo(view, object, self->start, self->size, self->is_readonly, flags);
}

static PyType_Slot export_slots[] = {
    {Py_tp_doc, "A range of pages that is exported: what `memoryview.obj` of a view is."},
    {Py_tp_dealloc, export_dealloc},
    {Py_bf_getbuffer, export_getbuffer},
    {0, NULL},
};

static PyType_Spec export_spec = {
    .name = "mmapwrap._core._mman.Export",
    .basicsize = sizeof(export_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = export_slots,
};

static int exporter_getbuffer(PyObject *region, Py_buffer *view, int flags)
{
    PyObject *export = PyObject_CallMethod(region, "_export", "i", flags);
    view->obj = NULL;
    if (export == NULL) return -1;
    int result = PyObject_GetBuffer(export, view, flags);
    Py_DECREF(export);
    return result;
}

static void exporter_releasebuffer(PyObject *region, Py_buffer *view)
{
    (void)region;
    (void)view;
}

static PyType_Slot exporter_slots[] = {
    {Py_tp_doc, "What exports its memory by `_export`: the base of the regions."},
    {Py_bf_getbuffer, exporter_getbuffer},
    {Py_bf_releasebuffer, exporter_releasebuffer},
    {0, NULL},
};

static PyType_Spec exporter_spec = {
    .name = "mmapwrap._core._mman.Exporter",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = exporter_slots,
};

static int add_type(PyObject *list, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    int result = type == NULL ? -1 : PyList_Append(list, type);
    Py_XDECREF(type);
    return result;
}

static PyObject *is_buffer(PyObject *module, PyObject *object)
{
    (void)module;
    return PyBool_FromLong(PyObject_CheckBuffer(object));
}

static PyMethodDef new_export_method = {
    "new_export", new_export, METH_VARARGS,
    "new_export(handle, address, size, is_readonly, views)\n--\n\nMake an Export."};

/* Python code can ask for this since 3.12 only. */
static PyMethodDef is_buffer_method = {
    "is_buffer", is_buffer, METH_O,
    "is_buffer(object)\n--\n\nReturn whether an object exports a buffer."};

int mmw_add_function(PyObject *list, PyMethodDef *method)
{
    PyObject *function = PyCFunction_New(method, NULL);
    int result = function == NULL ? -1 : PyList_Append(list, function);
    Py_XDECREF(function);
    return result;
}

int mmw_add_exporters(PyObject *list)
{
    if (add_type(list, &exporter_spec) != 0) return -1;
    export_type = (PyTypeObject *)PyType_FromSpec(&export_spec);
    if (export_type == NULL || PyList_Append(list, (PyObject *)export_type) != 0) return -1;
    if (mmw_add_function(list, &new_export_method) != 0) return -1;
    return mmw_add_function(list, &is_buffer_method);
}

/* Appends the types of this module to a list of Python's, which is given by its address. */
int64_t mmw_python_types(uintptr_t list)
{
    PyGILState_STATE state = PyGILState_Ensure();
    int result = mmw_add_exporters((PyObject *)list);
    if (result == 0) result = mmw_add_layout_lock((PyObject *)list);
    if (result == 0) result = mmw_add_handover((PyObject *)list);
    if (result == 0) result = mmw_add_owners((PyObject *)list);
    if (result != 0) PyErr_Clear();
    PyGILState_Release(state);
    return result == 0 ? 0 : MMW_FAILED_WITH(MMW_CALL_MALLOC, ENOMEM);
}

/* Appends a new bytes object to a list of Python's, which is given by its address. Its content is
 * what the memory held before: Python itself could only clear it, which for much takes long, with
 * the GIL. */
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
