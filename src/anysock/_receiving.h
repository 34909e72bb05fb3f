/* What `recv` of a stream hands out: a coroutine, made for one receive. How it goes on,
 * `receive_from` says, which is each module's own.
 */

#ifndef ANYSOCK_RECEIVING_H
#define ANYSOCK_RECEIVING_H

#include "_step.h"

#include <errno.h>

typedef struct {
    PyObject_HEAD
    PyObject *stream; /* NULL: it is over */
    Py_ssize_t most;  /* bytes; 0: as many as the stream thinks */
    int waited;
} Receiving;

static PyTypeObject Receiving_Type;

/* Those that are over, to be used again: each message needs one. */
#define MAX_SPARE 64
static Receiving *spare[MAX_SPARE];
static int spares;

static PyObject *str_explain, *str_received_nothing, *str_recv_more, *str_may_go_on, *zero;

/* How it goes on with its stream: each module's own. */
static PySendResult receive_from(Receiving *self, PyObject *owner, PyObject **result);

/* Raise what the stream says that the error `code` of a system call means. */
static void
raise_explained(PyObject *stream, int code)
{
    errno = code;
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *error = take_error();
    PyObject *explained = PyObject_CallMethodOneArg(stream, str_explain, error);
    Py_DECREF(error);
    if (explained != NULL) {
        PyException_SetCause(explained, NULL); /* raise explained from None */
        PyErr_SetObject((PyObject *)Py_TYPE(explained), explained);
        Py_DECREF(explained);
    }
}

static PySendResult
receiving_send(Receiving *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    *result = NULL;
    if (self->stream == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this receive was awaited already");
        return PYGEN_ERROR;
    }
    /* Held: while Python runs, be it a signal handler or another thread, this may be closed. */
    PyObject *owner = Py_NewRef(self->stream);
    PySendResult how = receive_from(self, owner, result);
    Py_DECREF(owner);
    return how;
}

static int
receiving_traverse(Receiving *self, visitproc visit, void *arg)
{
    Py_VISIT(self->stream);
    return 0;
}

static int
receiving_clear(Receiving *self)
{
    Py_CLEAR(self->stream);
    return 0;
}

static void
receiving_dealloc(Receiving *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->stream);
    if (spares < MAX_SPARE) {
        spare[spares++] = self;
    }
    else {
        PyObject_GC_Del(self);
    }
}

static PyObject *
receiving_step(Receiving *self, PyObject *value)
{
    PyObject *result;
    PySendResult how = receiving_send(self, value, &result);
    return as_generator(how, result);
}

static PyObject *
receiving_next(Receiving *self)
{
    return receiving_step(self, Py_None);
}

/* What is raised where it waits, it raises: it has nothing to catch it with. */
static PyObject *
receiving_throw(Receiving *self, PyObject *args)
{
    PyObject *kind, *value = NULL, *trace = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &kind, &value, &trace)) {
        return NULL;
    }
    Py_CLEAR(self->stream);
    if (PyExceptionInstance_Check(kind)) {
        PyErr_SetObject((PyObject *)Py_TYPE(kind), kind);
    }
    else if (PyExceptionClass_Check(kind)) {
        PyErr_SetObject(kind, value);
    }
    else {
        PyErr_SetString(PyExc_TypeError, "throw() takes an exception");
    }
    return NULL;
}

static PyObject *
receiving_close(Receiving *self, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(self->stream);
    Py_RETURN_NONE;
}

static PyMethodDef receiving_methods[] = {
    {"send", (PyCFunction)receiving_step, METH_O, NULL},
    {"throw", (PyCFunction)receiving_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)receiving_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyAsyncMethods receiving_async = {
    .am_await = PyObject_SelfIter,
    .am_send = (sendfunc)receiving_send,
};

static PyTypeObject Receiving_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock.Receiving",
    .tp_doc = "What `recv` hands out, to be awaited once.",
    .tp_basicsize = sizeof(Receiving),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)receiving_traverse,
    .tp_clear = (inquiry)receiving_clear,
    .tp_dealloc = (destructor)receiving_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)receiving_next,
    .tp_methods = receiving_methods,
    .tp_as_async = &receiving_async,
};

static PyObject *
new_receiving(PyObject *stream, Py_ssize_t most)
{
    Receiving *self;
    if (spares) {
        self = spare[--spares];
        PyObject_Init((PyObject *)self, &Receiving_Type);
    }
    else if ((self = PyObject_GC_New(Receiving, &Receiving_Type)) == NULL) {
        return NULL;
    }
    self->stream = Py_NewRef(stream);
    self->most = most;
    self->waited = 0;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The one argument of recv(), borrowed; NULL: an exception is set. */
static PyObject *
max_bytes_of(PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    Py_ssize_t given = count + (names == NULL ? 0 : PyTuple_GET_SIZE(names));
    if (given > 1 || (names != NULL && PyTuple_GET_SIZE(names) &&
                      PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "max_bytes"))) {
        PyErr_SetString(PyExc_TypeError, "recv() takes max_bytes, and nothing else");
        return NULL;
    }
    return given ? args[0] : Py_None;
}

/* As a number; 0: None. -1: an exception is set. */
static Py_ssize_t
number_of_bytes(PyObject *max_bytes)
{
    Py_ssize_t most = max_bytes == Py_None ? 0 : PyNumber_AsSsize_t(max_bytes, PyExc_OverflowError);
    if (most < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "recv() takes a number of bytes from 0 up");
    }
    return most < 0 ? -1 : most;
}

/* A send has returned at once: it counts, and the next may have to let others run first. Numbers of
   the stream: its budget, and where the descriptor stands that it writes to. */
static int
count_send(PyObject *stream, Number budget, Number write_fd, long not_yet)
{
    long long left = add(stream, budget, -1);
    if (left > 0) {
        return 0;
    }
    if (left < 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    PyObject *may = PyObject_CallMethodOneArg(stream, str_may_go_on, zero);
    if (may == NULL) {
        return -1;
    }
    int others_first = may == Py_False;
    Py_DECREF(may);
    return others_first ? put_number(stream, write_fd, not_yet) : 0;
}

static int
receiving_init(void)
{
    static const Name names[] = {
        {&str_explain, "_explain"},     {&str_received_nothing, "_received_nothing"},
        {&str_recv_more, "_recv_more"}, {&str_may_go_on, "_may_go_on"},
    };
    zero = PyLong_FromLong(0);
    if (zero == NULL || intern(names, sizeof names / sizeof *names) < 0 || step_init() < 0) {
        return -1;
    }
    return PyType_Ready(&Receiving_Type);
}

#endif
