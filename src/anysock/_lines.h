/* What an iterator over lines hands out where nothing is buffered: a receive, and a look at what it
 * brings. Mostly that is one line, and all of it: then no frame of Python is made for it.
 */

#ifndef ANYSOCK_LINES_H
#define ANYSOCK_LINES_H

#include "_awaiting.h"
#include "_connection.h"

#include <string.h>

/* The iterator; what is not of the ordinary, methods of its class know. */
typedef struct {
    PyObject_HEAD
    PyObject *connection; /* NULL: it was not initialized */
    Py_ssize_t max_bytes; /* of a line, with its end */
} Lines;

typedef struct {
    PyObject_HEAD
    PyObject *inner; /* what is awaited; NULL: it is over */
    Lines *lines;    /* whose `_otherwise` takes what is no such line; NULL: it has taken it */
} Line;

static PyTypeObject Line_Type;

/* Those that are over, to be used again: as those of `_receiving.h`. */
static Line *spare_line[MAX_SPARE];
static int spare_lines;

static PyObject *str_otherwise, *str_next;

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
    if (self->lines == NULL || is_one_line(*result, self->lines->max_bytes)) {
        Py_CLEAR(self->lines);
        return PYGEN_RETURN;
    }
    PyObject *data = *result, *lines = (PyObject *)self->lines;
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
        return awaited_already();
    }
    PySendResult how = send_into(self->inner, value, result);
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
        awaited_already();
        return NULL;
    }
    PyObject *result = throw_into(self->inner, args);
    if (result != NULL) {
        return result; /* it waits for something else */
    }
    if (PyErr_ExceptionMatches(PyExc_StopIteration)) { /* it has caught that, and returned */
        PyObject *stop = take_error();
        result = PyObject_GetAttr(stop, str_value);
        Py_DECREF(stop);
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
    return close_inner(inner);
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
    if (spare_lines < MAX_SPARE) {
        spare_line[spare_lines++] = self;
    }
    else {
        PyObject_GC_Del(self);
    }
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

static PyObject *
new_line(Lines *lines, PyObject *inner /* stolen */)
{
    Line *self;
    if (spare_lines) {
        self = spare_line[--spare_lines];
        PyObject_Init((PyObject *)self, &Line_Type);
    }
    else if ((self = PyObject_GC_New(Line, &Line_Type)) == NULL) {
        Py_DECREF(inner);
        return NULL;
    }
    self->inner = inner;
    self->lines = (Lines *)Py_NewRef(lines);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* -- the iterator -------------------------------------------------------------------------------- */

/* Whether there is a buffer, and nothing in it. */
static int
buffer_is_empty(PyObject *buffer)
{
    if (buffer == NULL || !Py_IS_TYPE(buffer, connection.buffers)) {
        return 0;
    }
    PyObject *data = SLOT(buffer, connection.data);
    return data != NULL && PyBytes_CheckExact(data) && !PyBytes_GET_SIZE(data);
}

static PyObject *
lines_anext(Lines *self)
{
    PyObject *owner = self->connection;
    if (owner == NULL || connection.type == NULL || !PyObject_TypeCheck(owner, connection.type) ||
        !buffer_is_empty(SLOT(owner, connection.buffer))) {
        return PyObject_CallMethodNoArgs((PyObject *)self, str_next);
    }
    PyObject *receive = recv_of_stream(owner, Py_None);
    PyObject *inner = receive == NULL ? NULL : iterator_of(receive);
    Py_XDECREF(receive);
    return inner == NULL ? NULL : new_line(self, inner);
}

/* Lines(connection, most bytes of a line) */
static PyObject *
lines_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(keywords))
{
    PyObject *owner, *most;
    if (!PyArg_ParseTuple(args, "OO", &owner, &most)) {
        return NULL;
    }
    Py_ssize_t max_bytes = PyNumber_AsSsize_t(most, NULL);
    if (max_bytes == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Lines *self = (Lines *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->connection = Py_NewRef(owner);
        self->max_bytes = max_bytes;
    }
    return (PyObject *)self;
}

static int
lines_traverse(Lines *self, visitproc visit, void *arg)
{
    Py_VISIT(self->connection);
    return 0;
}

static int
lines_clear(Lines *self)
{
    Py_CLEAR(self->connection);
    return 0;
}

static void
lines_dealloc(Lines *self)
{
    PyObject_GC_UnTrack(self);
    lines_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyMemberDef lines_members[] = {
    {"_connection", T_OBJECT_EX, offsetof(Lines, connection), READONLY, NULL},
    {"_max_bytes", T_PYSSIZET, offsetof(Lines, max_bytes), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyAsyncMethods lines_async = {
    .am_aiter = PyObject_SelfIter,
    .am_anext = (unaryfunc)lines_anext,
};

static PyTypeObject Lines_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock.Lines",
    .tp_doc = "Lines(connection, max_bytes): the base of the iterator over lines. Its class has the\n"
              "coroutines `_next`, the next line, and `_otherwise`, the same where that has come.",
    .tp_basicsize = sizeof(Lines),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .tp_new = lines_new,
    .tp_traverse = (traverseproc)lines_traverse,
    .tp_clear = (inquiry)lines_clear,
    .tp_dealloc = (destructor)lines_dealloc,
    .tp_members = lines_members,
    .tp_as_async = &lines_async,
};

static int
lines_init(void)
{
    static const Name names[] = {{&str_otherwise, "_otherwise"}, {&str_next, "_next"}};
    return intern(names, sizeof names / sizeof *names) < 0 || PyType_Ready(&Line_Type) < 0
               ? -1
               : PyType_Ready(&Lines_Type);
}

#endif
