/* What `recv` of a stream hands out: a coroutine, made for one receive. How it goes on,
 * `receiving_send` says, which is each module's own.
 */

#ifndef ANYSOCK_RECEIVING_H
#define ANYSOCK_RECEIVING_H

#include "_step.h"

typedef struct {
    PyObject_HEAD
    PyObject *stream; /* NULL: it is over */
    Py_ssize_t most;  /* bytes; 0: as many as the stream thinks */
    int waited;
} Receiving;

static PyTypeObject Receiving_Type;

static PySendResult receiving_send(Receiving *self, PyObject *value, PyObject **result);

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
    PyObject_GC_Del(self);
}

static PyObject *
receiving_step(Receiving *self, PyObject *value)
{
    PyObject *result;
    switch (receiving_send(self, value, &result)) {
    case PYGEN_RETURN:
    {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        Py_DECREF(result);
        return NULL;
    }
    case PYGEN_NEXT:
        return result;
    default:
        return NULL;
    }
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
    Receiving *self = PyObject_GC_New(Receiving, &Receiving_Type);
    if (self == NULL) {
        return NULL;
    }
    self->stream = Py_NewRef(stream);
    self->most = most;
    self->waited = 0;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

#endif
