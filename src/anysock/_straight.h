/* The object in whose place a step goes to the handler straight: `send_straight` in `_step.h`.
 *
 * A session is a coroutine that awaits its handler, and so is whatever stands between the two. Each
 * step of the task would run down through all of these frames, and up again. They know nothing of it
 * where they await this: they hear of the end, and of what is thrown into them, as ever.
 */

#ifndef ANYSOCK_STRAIGHT_H
#define ANYSOCK_STRAIGHT_H

#include "_awaiting.h"

static PySendResult
straight_send(Straight *self, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (self->awaited == NULL) {
        return awaited_already();
    }
    if (self->task == NULL) {
        PyObject *raised = self->awaited;
        self->awaited = NULL;
        if (Py_IS_TYPE(raised, (PyTypeObject *)PyExc_StopIteration)) {
            *result = PyObject_GetAttr(raised, str_value);
            Py_DECREF(raised);
            return *result == NULL ? PYGEN_ERROR : PYGEN_RETURN;
        }
        PyErr_Restore(Py_NewRef(Py_TYPE(raised)), raised, PyException_GetTraceback(raised));
        return PYGEN_ERROR;
    }
    PySendResult how = send_into(self->awaited, value, result);
    if (how != PYGEN_NEXT) {
        straight_over(self, NULL);
    }
    else if (self->task != NULL) {
        put(self->task, task.straight, Py_NewRef(self));
    }
    return how;
}

static PyObject *
straight_step(Straight *self, PyObject *value)
{
    PyObject *result;
    PySendResult how = straight_send(self, value, &result);
    return as_generator(how, result);
}

static PyObject *
straight_next(Straight *self)
{
    return straight_step(self, Py_None);
}

static PyObject *
straight_throw(Straight *self, PyObject *args)
{
    if (self->task == NULL) {
        awaited_already();
        return NULL;
    }
    PyObject *result = throw_into(self->awaited, args);
    if (result == NULL) {
        straight_over(self, NULL);
    }
    return result;
}

static PyObject *
straight_close(Straight *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *inner = self->task == NULL ? NULL : Py_NewRef(self->awaited);
    straight_over(self, NULL);
    return close_inner(inner);
}

static int
straight_traverse(Straight *self, visitproc visit, void *arg)
{
    Py_VISIT(self->awaited);
    Py_VISIT(self->task);
    return 0;
}

static int
straight_clear(Straight *self)
{
    straight_over(self, NULL);
    return 0;
}

static void
straight_dealloc(Straight *self)
{
    PyObject_GC_UnTrack(self);
    straight_clear(self);
    PyObject_GC_Del(self);
}

static PyMethodDef straight_methods[] = {
    {"send", (PyCFunction)straight_step, METH_O, NULL},
    {"throw", (PyCFunction)straight_throw, METH_VARARGS, NULL},
    {"close", (PyCFunction)straight_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef straight_members[] = {
    {"cr_await", T_OBJECT, offsetof(Straight, awaited), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyAsyncMethods straight_async = {
    .am_await = PyObject_SelfIter,
    .am_send = (sendfunc)straight_send,
};

static PyTypeObject Straight_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock.Straight",
    .tp_doc = "What `straight` makes: to be awaited by its task, whose steps go to it straight.",
    .tp_basicsize = sizeof(Straight),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = (traverseproc)straight_traverse,
    .tp_clear = (inquiry)straight_clear,
    .tp_dealloc = (destructor)straight_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)straight_next,
    .tp_methods = straight_methods,
    .tp_members = straight_members,
    .tp_as_async = &straight_async,
};

/* straight(task, awaitable): what `task`, the running one, is to await at once in the place of
   `awaitable`. That is itself, where the task is none of our loop. */
static PyObject *
straight(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "straight() takes a task and an awaitable");
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], task.type)) {
        return Py_NewRef(args[1]);
    }
    PyObject *inner = iterator_of(args[1]);
    Straight *self = inner == NULL ? NULL : PyObject_GC_New(Straight, &Straight_Type);
    if (self == NULL) {
        Py_XDECREF(inner);
        return NULL;
    }
    self->awaited = inner;
    self->task = Py_NewRef(args[0]);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

#endif
