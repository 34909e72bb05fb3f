/* What an iterator over lines hands out where nothing is buffered: a receive, and a look at what it
 * brings. Mostly that is one line, and all of it: then no frame of Python is made for it.
 */

#ifndef ANYSOCK_LINES_H
#define ANYSOCK_LINES_H

#include "_step.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    PyObject *inner;      /* what is awaited; NULL: it is over */
    PyObject *lines;      /* whose `_otherwise` takes what is no such line; NULL: it has taken it */
    Py_ssize_t max_bytes; /* with the end of the line */
} Line;

static PyTypeObject Line_Type;

static PyObject *str_otherwise, *str_throw, *str_close, *str_value;

/* What `await` goes through: a new reference. A coroutine is its own; so is a generator that
   `types.coroutine` has marked. */
static PyObject *
iterator_of(PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable) || PyGen_CheckExact(awaitable)) {
        return Py_NewRef(awaitable);
    }
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "a receive is to be awaited, and %.100s can't be",
                     Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    return methods->am_await(awaitable);
}

static int
is_one_line(PyObject *data, Py_ssize_t max_bytes)
{
    if (!PyBytes_CheckExact(data)) {
        return 0;
    }
    const char *text = PyBytes_AS_STRING(data);
    Py_ssize_t size = PyBytes_GET_SIZE(data);
    return size && size <= max_bytes && memchr(text, '\n', (size_t)size) == text + size - 1;
}

static int
line_clear(Line *self)
{
    Py_CLEAR(self->inner);
    Py_CLEAR(self->lines);
    return 0;
}

static PySendResult line_send(Line *self, PyObject *value, PyObject **result);

/* What is awaited has returned `*result`. */
static PySendResult
line_returned(Line *self, PyObject **result)
{
    Py_CLEAR(self->inner);
    if (self->lines == NULL || is_one_line(*result, self->max_bytes)) {
        Py_CLEAR(self->lines);
        return PYGEN_RETURN;
    }
    PyObject *data = *result, *lines = self->lines;
    *result = NULL;
    self->lines = NULL;
    PyObject *otherwise = PyObject_CallMethodOneArg(lines, str_otherwise, data);
    Py_DECREF(data);
    Py_DECREF(lines);
    if (otherwise == NULL) {
        return PYGEN_ERROR;
    }
    self->inner = iterator_of(otherwise);
    Py_DECREF(otherwise);
    return self->inner == NULL ? PYGEN_ERROR : line_send(self, Py_None, result);
}

static PySendResult
line_send(Line *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (self->inner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this line was awaited already");
        return PYGEN_ERROR;
    }
    if (Py_EnterRecursiveCall(" in a line that awaits itself")) {
        return PYGEN_ERROR;
    }
    /* Held: while Python runs, this may be closed. */
    PyObject *inner = Py_NewRef(self->inner);
    PySendResult how = PyIter_Send(inner, value, result);
    Py_DECREF(inner);
    Py_LeaveRecursiveCall();
    if (how == PYGEN_RETURN) {
        return line_returned(self, result);
    }
    if (how == PYGEN_ERROR) {
        line_clear(self);
    }
    return how;
}

static PyObject *
line_step(Line *self, PyObject *value)
{
    PyObject *result;
    PySendResult how = line_send(self, value, &result);
    return as_generator(how, result);
}

static PyObject *
line_next(Line *self)
{
    return line_step(self, Py_None);
}

/* What is raised where it waits is raised in what is awaited, which may catch it. */
static PyObject *
line_throw(Line *self, PyObject *args)
{
    if (self->inner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this line was awaited already");
        return NULL;
    }
    PyObject *inner = Py_NewRef(self->inner), *result = NULL;
    PyObject *thrower = PyObject_GetAttr(inner, str_throw);
    if (thrower != NULL) {
        result = PyObject_CallObject(thrower, args);
        Py_DECREF(thrower);
    }
    Py_DECREF(inner);
    if (result != NULL) {
        return result; /* it waits for something else */
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) { /* it has caught that, and returned */
        PyObject *kind, *stop, *trace;
        PyErr_Fetch(&kind, &stop, &trace);
        PyErr_NormalizeException(&kind, &stop, &trace);
        result = PyObject_GetAttr(stop, str_value);
        Py_XDECREF(kind);
        Py_XDECREF(stop);
        Py_XDECREF(trace);
    }
    if (result == NULL) {
        line_clear(self);
        return NULL;
    }
    PySendResult how = line_returned(self, &result);
    return as_generator(how, result);
}

static PyObject *
line_close(Line *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *inner = self->inner;
    self->inner = NULL;
    Py_CLEAR(self->lines);
    PyObject *closed =
        inner == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(inner, str_close);
    Py_XDECREF(inner);
    return closed;
}

static int
line_traverse(Line *self, visitproc visit, void *arg)
{
    Py_VISIT(self->inner);
    Py_VISIT(self->lines);
    return 0;
}

static void
line_dealloc(Line *self)
{
    PyObject_GC_UnTrack(self);
    line_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef line_methods[] = {
    {"send", (PyCFunction)line_step, METH_O, NULL},
    {"throw", (PyCFunction)line_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)line_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef line_members[] = {
    /* As coroutines have it, for who wants to know where a task waits. */
    {"cr_await", T_OBJECT, offsetof(Line, inner), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyAsyncMethods line_async = {
    .am_await = PyObject_SelfIter,
    .am_send = (sendfunc)line_send,
};

static PyTypeObject Line_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock.Line",
    .tp_doc = "What an iterator over lines hands out, to be awaited once.",
    .tp_basicsize = sizeof(Line),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)line_traverse,
    .tp_clear = (inquiry)line_clear,
    .tp_dealloc = (destructor)line_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)line_next,
    .tp_methods = line_methods,
    .tp_members = line_members,
    .tp_as_async = &line_async,
};

/* one_line(receive, most bytes, lines): await `receive`; what it brings is returned if it is one
   line, and nothing else, else what `lines._otherwise` makes of it is awaited. */
static PyObject *
one_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "one_line() takes a receive, bytes and an iterator");
        return NULL;
    }
    Py_ssize_t max_bytes = PyNumber_AsSsize_t(args[1], NULL);
    if (max_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *inner = iterator_of(args[0]);
    Line *self = inner == NULL ? NULL : PyObject_GC_New(Line, &Line_Type);
    if (self == NULL) {
        Py_XDECREF(inner);
        return NULL;
    }
    self->inner = inner;
    self->lines = Py_NewRef(args[2]);
    self->max_bytes = max_bytes;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
lines_init(void)
{
    static const Name names[] = {
        {&str_otherwise, "_otherwise"}, {&str_throw, "throw"}, {&str_close, "close"},
        {&str_value, "value"}};
    return intern(names, sizeof names / sizeof *names) < 0 ? -1 : PyType_Ready(&Line_Type);
}

#endif
