/* What an object that awaits another one in C needs: it hands on what is sent and thrown. */

#ifndef ANYSOCK_AWAITING_H
#define ANYSOCK_AWAITING_H

#include "_step.h"

static PyObject *str_throw, *str_close, *str_value;

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
        PyErr_Format(PyExc_TypeError, "%.100s can't be awaited", Py_TYPE(awaitable)->tp_name);
        return NULL;
    }
    return methods->am_await(awaitable);
}

static PySendResult
awaited_already(void)
{
    PyErr_SetString(PyExc_RuntimeError, "this was awaited already");
    return PYGEN_ERROR;
}

static PySendResult
send_into(PyObject *inner, PyObject *value, PyObject **result)
{
    if (Py_EnterRecursiveCall(" in what awaits itself")) {
        return PYGEN_ERROR;
    }
    Py_INCREF(inner); /* held: while Python runs, its owner may be closed */
    PySendResult how = PyIter_Send(inner, value, result);
    Py_DECREF(inner);
    Py_LeaveRecursiveCall();
    return how;
}

/* `inner.throw(*args)`: what it waits for next. NULL: it has raised, or returned (StopIteration). */
static PyObject *
throw_into(PyObject *inner, PyObject *args)
{
    PyObject *result = NULL;
    Py_INCREF(inner);
    PyObject *thrower = PyObject_GetAttr(inner, str_throw);
    if (thrower != NULL) {
        result = PyObject_CallObject(thrower, args);
        Py_DECREF(thrower);
    }
    Py_DECREF(inner);
    return result;
}

static PyObject *
close_inner(PyObject *inner /* stolen; NULL: there is none */)
{
    PyObject *closed =
        inner == NULL ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(inner, str_close);
    Py_XDECREF(inner);
    return closed;
}

static int
awaiting_init(void)
{
    static const Name names[] = {{&str_throw, "throw"}, {&str_close, "close"},
                                 {&str_value, "value"}};
    return intern(names, sizeof names / sizeof *names);
}

#endif
