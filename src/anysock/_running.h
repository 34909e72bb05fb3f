/* Two methods of a kernel: `process_events` for who has no compiled turn, and `run_ready_tasks`.
 *
 * They make no system call. So the simulated network has them too, whose kernel is a second class of
 * the same source.
 */

#ifndef ANYSOCK_RUNNING_H
#define ANYSOCK_RUNNING_H

#include "_awaiting.h"

static PyObject *str_ready, *str_popleft, *str_run_ready;

/* A step of a task that was woken with `outcome`: its await raises that, or returns it. */
static PySendResult
send_outcome(PyObject *kernel, PyObject *running, PyObject *context, PyObject *outcome,
             PyObject **result)
{
    *result = NULL;
    put(kernel, loop.current, Py_NewRef(running));
    if (PyContext_Enter(context) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *coro = Py_NewRef(SLOT(running, task.coro));
    PySendResult how;
    if (PyExceptionInstance_Check(outcome)) {
        *result = PyObject_CallMethodOneArg(coro, str_throw, outcome);
        how = *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
    }
    else {
        how = PyIter_Send(coro, outcome, result);
    }
    Py_DECREF(coro);
    return leave_context(context, how, result);
}

/* A step of a task that is ready: `Kernel._run_ready`. */
static int
run_ready(PyObject *kernel, PyObject *running)
{
    PyObject *context = Py_IS_TYPE(running, task.type) ? SLOT(running, task.context) : NULL;
    if (context == NULL || !PyContext_CheckExact(context) || SLOT(running, task.coro) == NULL ||
        SLOT(running, task.outcome) == NULL) {
        PyObject *done = PyObject_CallMethodOneArg(kernel, str_run_ready, running);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *result, *outcome = Py_NewRef(SLOT(running, task.outcome));
    PySendResult how;
    Py_INCREF(context);
    if (outcome == Py_None) {
        how = send_to(kernel, running, context, &result);
    }
    else {
        put(running, task.outcome, Py_NewRef(Py_None));
        how = send_outcome(kernel, running, context, outcome, &result);
    }
    Py_DECREF(context);
    Py_DECREF(outcome);
    return how == PYGEN_NEXT ? pause_task(kernel, running, result) : end_task(kernel, running, result);
}

static PyObject *
run_ready_tasks(PyObject *kernel, PyObject *Py_UNUSED(ignored))
{
    PyObject *ready = PyObject_GetAttr(kernel, str_ready);
    Py_ssize_t left = ready == NULL ? -1 : PyObject_Size(ready);
    int failed = left < 0;
    while (!failed && left-- > 0) {
        PyObject *running = PyObject_CallMethodNoArgs(ready, str_popleft);
        failed = running == NULL || run_ready(kernel, running) < 0;
        Py_XDECREF(running);
    }
    Py_XDECREF(ready);
    if (failed) {
        return NULL;
    }
    put(kernel, loop.current, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

/* Of events as `poll` returns them: pairs of a descriptor and a mask. */
static PyObject *
process_events(PyObject *kernel, PyObject *events)
{
    PyObject *readers = PyList_Check(events) ? readers_of(kernel) : NULL;
    if (readers == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "process_events() takes a list of events");
        }
        return NULL;
    }
    int failed = 0;
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(events); i++) {
        PyObject *event = PyList_GET_ITEM(events, i);
        int fd = -1;
        unsigned mask = 0;
        if (!PyTuple_Check(event)) {
            PyErr_SetString(PyExc_TypeError, "an event is a descriptor and a mask");
            failed = 1;
        }
        else {
            failed = !PyArg_ParseTuple(event, "iI", &fd, &mask) ||
                     process_event(kernel, readers, fd, mask) < 0;
        }
    }
    Py_DECREF(readers);
    if (failed) {
        return NULL;
    }
    put(kernel, loop.current, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

static PyMethodDef process_events_method = {"process_events", process_events, METH_O, NULL};
static PyMethodDef run_ready_tasks_method = {"run_ready_tasks", run_ready_tasks, METH_NOARGS, NULL};

/* bind_kernel(kernel class, task class): `process_events` and `run_ready_tasks`, methods of that
   class. A second class of kernels must have its slots where the first has them. */
static PyObject *
bind_kernel(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *kernels, *tasks;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &kernels, &PyType_Type, &tasks)) {
        return NULL;
    }
    if (loop.type == NULL) {
        if (step_bind(tasks, kernels) < 0) {
            return NULL;
        }
    }
    else {
        Py_ssize_t current, readers;
        const Slot slots[] = {{&current, kernels, "current"}, {&readers, kernels, "readers"}};
        if (find_slots(slots, sizeof slots / sizeof *slots) < 0) {
            return NULL;
        }
        if (current != loop.current || readers != loop.readers || tasks != task.type) {
            PyErr_SetString(PyExc_TypeError, "this kernel has its slots elsewhere");
            return NULL;
        }
    }
    return Py_BuildValue("(NN)", PyDescr_NewMethod(kernels, &process_events_method),
                         PyDescr_NewMethod(kernels, &run_ready_tasks_method));
}

static int
running_init(void)
{
    static const Name names[] = {
        {&str_ready, "_ready"}, {&str_popleft, "popleft"}, {&str_run_ready, "_run_ready"}};
    return intern(names, sizeof names / sizeof *names);
}

#endif
