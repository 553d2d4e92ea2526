/* Owners of records. An owner releases its record when nobody holds the owner any more.
 *
 * cffi's own `ffi.gc` would release the record in a finalizer. Where garbage is a cycle, the
 * collector may run that finalizer before the `__del__` of another object in the cycle, which then
 * uses a record that is gone. An owner has no finalizer: the collector first runs all finalizers of
 * the cycle, and then takes it apart; only then the last reference to the owner goes.
 *
 * Python code does not hold the owner itself. It holds a pointer to the record, which cffi makes of
 * the owner's buffer, and which keeps the owner. */

#include "python.h"

typedef void releaser(void *record);

typedef struct {
    PyObject_HEAD
    void *record;
    releaser *release;
    PyObject
        *kept; /* an object that lives as long as the record, such as the owner of its memory */
} owner_object;

static PyTypeObject *owner_type;

static PyObject *new_owner(void *record, releaser *release, PyObject *kept)
{
    if (record == NULL) return PyErr_NoMemory();
    allocfunc allocate = (allocfunc)PyType_GetSlot(owner_type, Py_tp_alloc);
    owner_object *self = (owner_object *)allocate(owner_type, 0);
    if (self == NULL) {
        release(record);
        return NULL;
    }
    self->record = record;
    self->release = release;
    Py_INCREF(kept);
    self->kept = kept;
    return (PyObject *)self;
}

static void owner_dealloc(PyObject *object)
{
    owner_object *self = (owner_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    PyObject *error_type, *error, *traceback;
    PyErr_Fetch(&error_type, &error, &traceback);
    Py_BEGIN_ALLOW_THREADS;
    self->release(self->record);
    Py_END_ALLOW_THREADS;
    Py_CLEAR(self->kept); /* after the record, whose memory it may own */
    PyErr_Restore(error_type, error, traceback);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static int owner_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((owner_object *)object)->kept);
    Py_VISIT(Py_TYPE(object));
    return 0;
}

/* cffi makes a pointer to the record of it, and asks for a byte at least. */
static int owner_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    return PyBuffer_FillInfo(view, object, ((owner_object *)object)->record, 1, 0, flags);
}

static PyType_Slot owner_slots[] = {
    {Py_tp_doc, "The owner of a record in C, which it releases at its end."},
    {Py_tp_dealloc, owner_dealloc},
    {Py_tp_traverse, owner_traverse},
    {Py_bf_getbuffer, owner_getbuffer},
    {0, NULL},
};

static PyType_Spec owner_spec = {
    .name = "mmapwrap._core._mman.Owner",
    .basicsize = sizeof(owner_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = owner_slots,
};

static void release_pages(void *pages) { mmw_release(pages); }
static void release_guard(void *guard) { mmw_free_guard(guard); }
static void release_descriptor(void *descriptor) { mmw_close_descriptor(descriptor); }

static PyObject *own_pages(PyObject *module, PyObject *kept)
{
    (void)module;
    return new_owner(mmw_new(), release_pages, kept);
}

static PyObject *own_guard(PyObject *module, PyObject *nothing)
{
    (void)module;
    return new_owner(mmw_new_guard(), release_guard, nothing == NULL ? Py_None : nothing);
}

static PyObject *own_descriptor(PyObject *module, PyObject *nothing)
{
    (void)module;
    return new_owner(mmw_new_descriptor(), release_descriptor, nothing == NULL ? Py_None : nothing);
}

static PyMethodDef own_pages_method = {
    "own_pages", own_pages, METH_O,
    "own_pages(kept)\n--\n\nMake the owner of a new record without pages; it keeps an object."};
static PyMethodDef own_guard_method = {
    "own_guard", own_guard, METH_NOARGS,
    "own_guard()\n--\n\nMake the owner of a new guard, which has not been entered."};
static PyMethodDef own_descriptor_method = {
    "own_descriptor", own_descriptor, METH_NOARGS,
    "own_descriptor()\n--\n\nMake the owner of a descriptor, which is none yet."};

int mmw_add_owners(PyObject *list)
{
    owner_type = (PyTypeObject *)PyType_FromSpec(&owner_spec);
    if (owner_type == NULL || PyList_Append(list, (PyObject *)owner_type) != 0) return -1;
    if (mmw_add_function(list, &own_pages_method) != 0) return -1;
    if (mmw_add_function(list, &own_guard_method) != 0) return -1;
    return mmw_add_function(list, &own_descriptor_method);
}
