/* The lock of one region's layout: a sequence lock.
 *
 * A change of the layout (protect, an arena's add and remove) runs exclusively: one at a time for
 * each region. The sequence number is odd while it runs. A question about the layout (a view, the
 * list of segments) runs without the lock, and is asked again, exclusively, where the number has
 * changed meanwhile.
 *
 * The lock is written in C because of what may come between two steps of Python code: a signal
 * handler or a trace function that raises. Here nothing does. Python runs inside the function that
 * is called, and whatever it raises, the number is even again and the lock free.
 *
 * Three changes must not wait, because they would wait for themselves or for ever:
 *
 *   - A change inside a change of the same region, in the same thread: a signal handler or a
 *     finalizer has come in between. It is refused: `_refuse` of the subclass raises.
 *   - A change in the child of a fork, while a thread that the child does not have was changing the
 *     region. The fork waits for nothing and tells nobody. The child finds that the count of forks
 *     is not the lock's, takes a new lock, and sees from the odd number that a change was under way
 *     and will never end. It makes the number even and goes on. That is safe, because a change
 *     first remembers less access than there is, then acts, then remembers what there is: wherever
 *     it ended, no more is remembered than the kernel allows.
 *   - A change by a finalizer, or by other code that runs while Python exits, where a daemon thread
 *     was changing the region. That thread gets the interpreter's lock no more, so that its change
 *     never ends. This one is refused too. */

#include "python.h"

#include <pythread.h>

typedef struct {
    PyObject_HEAD
    PyThread_type_lock lock; /* NULL: not needed yet */
    uint64_t fork_count;     /* of the process in which the lock was made */
    _Atomic uint64_t sequence;
    _Atomic unsigned long owner; /* the thread that changes the layout, 0: none */
} layout_lock;

#ifdef Py_GIL_DISABLED
#define LOCK_OBJECT(object) Py_BEGIN_CRITICAL_SECTION(object)
#define UNLOCK_OBJECT() Py_END_CRITICAL_SECTION()
#else /* the interpreter's lock is held */
#define LOCK_OBJECT(object) {
#define UNLOCK_OBJECT() }
#endif

/* The lock of this process. That of a parent is left to it: a thread may hold it there. */
static PyThread_type_lock own_lock(layout_lock *self)
{
    uint64_t fork_count = atomic_load(&mmw_fork_count);
    PyThread_type_lock lock;
    LOCK_OBJECT(self);
    if (self->lock == NULL || self->fork_count != fork_count) {
        self->lock = PyThread_allocate_lock();
        self->fork_count = fork_count;
        /* The thread that forked may be inside a change still: then it holds the new lock too.
         * Another owner is not in the child, where a new thread may have got its identity. */
        bool is_owned = atomic_load(&self->owner) == mmw_forking_thread && mmw_forking_thread != 0;
        if (is_owned && self->lock != NULL) PyThread_acquire_lock(self->lock, NOWAIT_LOCK);
        if (!is_owned) atomic_store(&self->owner, 0);
    }
    lock = self->lock;
    UNLOCK_OBJECT();
    if (lock == NULL) PyErr_NoMemory();
    return lock;
}

static PyObject *refuse(layout_lock *self, const char *what)
{
    PyObject *result = PyObject_CallMethod((PyObject *)self, "_refuse", "s", what);
    Py_XDECREF(result);
    if (result != NULL) PyErr_SetString(PyExc_RuntimeError, "_refuse() has not raised");
    return NULL;
}

static PyObject *is_finalizing; /* of the module sys, which loses it before the last finalizers */

/* Refuses where Python exits, in this thread: no other one runs Python code any more. */
static bool refuses_at_exit(layout_lock *self)
{
    PyObject *answer = PyObject_CallNoArgs(is_finalizing);
    if (answer == NULL) return true;
    bool exits = answer == Py_True;
    Py_DECREF(answer);
    if (exits) refuse(self, "a call while Python exits, inside a change that never ends");
    return exits;
}

/* Waits for the lock of this process. Signal handlers run meanwhile; an error that one of them
 * raises ends the wait. A handler may fork: in the child the wait goes on, for the lock of the
 * child. Where Python begins to exit meanwhile, this is one of the threads that never go on. */
static bool acquire(layout_lock *self)
{
    for (;;) {
        PyThread_type_lock lock = own_lock(self);
        if (lock == NULL) return false;
        if (PyThread_acquire_lock(lock, NOWAIT_LOCK)) return true;
        if (refuses_at_exit(self)) return false;
        PyLockStatus status;
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(lock, -1, 1);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) return true;
        if (PyErr_CheckSignals() != 0) return false;
    }
}

/* Lets the next change in. A fork inside this change may have made the lock a new one, or none
 * where memory ran out. */
static void release(layout_lock *self)
{
    LOCK_OBJECT(self);
    atomic_store(&self->owner, 0);
    if (self->lock != NULL) PyThread_release_lock(self->lock);
    UNLOCK_OBJECT();
}

/* Calls the first argument with the rest. */
static PyObject *call(PyObject *arguments)
{
    PyObject *rest = PyTuple_GetSlice(arguments, 1, PyTuple_Size(arguments));
    if (rest == NULL) return NULL;
    PyObject *result = PyObject_Call(PyTuple_GetItem(arguments, 0), rest, NULL);
    Py_DECREF(rest);
    return result;
}

static bool has_function(PyObject *arguments)
{
    if (PyTuple_Size(arguments) > 0) return true;
    PyErr_SetString(PyExc_TypeError, "a function is needed");
    return false;
}

static PyObject *exclusively(PyObject *object, PyObject *arguments)
{
    layout_lock *self = (layout_lock *)object;
    unsigned long me = PyThread_get_thread_ident();
    if (!has_function(arguments)) return NULL;
    if (own_lock(self) == NULL) return NULL;
    if (atomic_load(&self->owner) == me)
        return refuse(self, "a call inside a change of the same region");
    if (!acquire(self)) return NULL;
    if (atomic_load(&self->sequence) % 2 != 0) atomic_fetch_add(&self->sequence, 1);
    atomic_store(&self->owner, me);
    atomic_fetch_add(&self->sequence, 1);
    PyObject *result = call(arguments);
    atomic_fetch_add(&self->sequence, 1);
    release(self);
    return result;
}

static PyObject *consistently(PyObject *object, PyObject *arguments)
{
    layout_lock *self = (layout_lock *)object;
    if (!has_function(arguments)) return NULL;
    uint64_t sequence = atomic_load(&self->sequence);
    if (sequence % 2 == 0) {
        PyObject *result = call(arguments);
        if (result == NULL || atomic_load(&self->sequence) == sequence) return result;
        Py_DECREF(result);
    }
    return exclusively(object, arguments);
}

static void layout_lock_dealloc(PyObject *object)
{
    layout_lock *self = (layout_lock *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->lock != NULL && self->fork_count == atomic_load(&mmw_fork_count))
        PyThread_free_lock(self->lock);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"exclusively", exclusively, METH_VARARGS,
     "exclusively(change, *arguments)\n--\n\nCall what changes the layout while nobody else does."},
    {"consistently", consistently, METH_VARARGS,
     "consistently(ask, *arguments)\n--\n\nCall what depends on the layout, again if it changes."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "A sequence lock; a subclass refuses by raising in `_refuse`."},
    {Py_tp_dealloc, layout_lock_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "mmapwrap._core._mman.SequenceLock",
    .basicsize = sizeof(layout_lock),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int mmw_add_layout_lock(PyObject *list)
{
    is_finalizing = Py_XNewRef(PySys_GetObject("is_finalizing"));
    if (is_finalizing == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "lost sys.is_finalizing");
        return -1;
    }
    PyObject *type = PyType_FromSpec(&spec);
    int result = type == NULL ? -1 : PyList_Append(list, type);
    Py_XDECREF(type);
    return result;
}
