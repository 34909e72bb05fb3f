/* What the compiled modules share: slots of Python objects, and a step of a task.
 *
 * Each module has its own copy of this, and calls `step_init` and `step_bind` once.
 */

#ifndef ANYSOCK_STEP_H
#define ANYSOCK_STEP_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <poll.h>

/* -- slots ----------------------------------------------------------------------------------- */

/* Where a class with `__slots__` keeps one of them. */
static Py_ssize_t
offset_of(PyTypeObject *type, const char *name)
{
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL) {
        return -1;
    }
    if (!Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        PyErr_Format(PyExc_TypeError, "%s.%s is no slot", type->tp_name, name);
        Py_DECREF(found);
        return -1;
    }
    Py_ssize_t offset = ((PyMemberDescrObject *)found)->d_member->offset;
    Py_DECREF(found);
    return offset;
}

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

static inline long
get_long(PyObject *object, Py_ssize_t offset)
{
    PyObject *value = SLOT(object, offset);
    return value == NULL ? -1 : PyLong_AsLong(value);
}

static inline PyObject *
get(PyObject *object, Py_ssize_t offset)
{
    PyObject *value = SLOT(object, offset);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a slot of the stream was deleted");
        return NULL;
    }
    return Py_NewRef(value);
}

static inline int
put(PyObject *object, Py_ssize_t offset, PyObject *value /* stolen */)
{
    if (value == NULL) {
        return -1;
    }
    PyObject *before = SLOT(object, offset);
    SLOT(object, offset) = value;
    Py_XDECREF(before);
    return 0;
}

static inline int
add(PyObject *object, Py_ssize_t offset, Py_ssize_t size)
{
    PyObject *value = SLOT(object, offset);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a slot of the stream was deleted");
        return -1;
    }
    long long before = PyLong_AsLongLong(value);
    if (before == -1 && PyErr_Occurred()) {
        return -1;
    }
    return put(object, offset, PyLong_FromLongLong(before + size));
}

static struct {
    PyTypeObject *type;
    Py_ssize_t coro, context, wait;
} task;

static PyObject *str_pause, *str_end, *str_resume, *str_current, *str_watchdog_wakeup, *str_set,
    *str_asleep, *str_readers, *str_process_events;

/* -- a step of a task ------------------------------------------------------------------------- */

static int
end_task(PyObject *kernel, PyObject *running, PyObject *value /* stolen; NULL: it has raised */)
{
    PyObject *ended;
    if (value != NULL) {
        ended = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
    }
    else {
        PyObject *kind, *trace;
        PyErr_Fetch(&kind, &ended, &trace);
        PyErr_NormalizeException(&kind, &ended, &trace);
        if (trace != NULL) {
            PyException_SetTraceback(ended, trace);
        }
        Py_XDECREF(kind);
        Py_XDECREF(trace);
    }
    if (ended == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodObjArgs(kernel, str_end, running, ended, NULL);
    Py_DECREF(ended);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Run a task until it pauses again, or ends: `Kernel._resume`. */
static int
resume(PyObject *kernel, PyObject *running)
{
    PyObject *context = Py_IS_TYPE(running, task.type) ? SLOT(running, task.context) : NULL;
    if (context == NULL || !PyContext_CheckExact(context) /* an observer's */
        || SLOT(running, task.coro) == NULL) {
        PyObject *done = PyObject_CallMethodOneArg(kernel, str_resume, running);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    if (PyObject_SetAttr(kernel, str_current, running) < 0 || PyContext_Enter(context) < 0) {
        return -1;
    }
    PyObject *result, *coro = Py_NewRef(SLOT(running, task.coro));
    Py_INCREF(context);
    PySendResult how = PyIter_Send(coro, Py_None, &result);
    Py_DECREF(coro);
    if (how == PYGEN_ERROR) {
        PyObject *kind, *error, *trace;
        PyErr_Fetch(&kind, &error, &trace);
        PyContext_Exit(context);
        PyErr_Restore(kind, error, trace);
    }
    else if (PyContext_Exit(context) < 0) {
        Py_DECREF(context);
        Py_DECREF(result);
        return -1;
    }
    Py_DECREF(context);
    if (how != PYGEN_NEXT) {
        return end_task(kernel, running, result);
    }
    if (result == SLOT(running, task.wait)) { /* it is still entered */
        Py_DECREF(result);
        return 0;
    }
    PyObject *done = PyObject_CallMethodObjArgs(kernel, str_pause, running, result, NULL);
    Py_DECREF(result);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The watchdog sleeps as long as the loop does. */
static int
wake_watchdog(PyObject *kernel)
{
    PyObject *event = PyObject_GetAttr(kernel, str_watchdog_wakeup), *done = Py_None;
    if (event == NULL) {
        return -1;
    }
    if (event != Py_None && (done = PyObject_CallMethodNoArgs(event, str_set)) != NULL) {
        Py_DECREF(done);
    }
    Py_DECREF(event);
    return done == NULL ? -1 : 0;
}

/* The tasks that wait to read, by descriptor: a new reference. */
static PyObject *
readers_of(PyObject *kernel)
{
    PyObject *readers = PyObject_GetAttr(kernel, str_readers);
    if (readers != NULL && !PyDict_Check(readers)) {
        PyErr_SetString(PyExc_TypeError, "a kernel's readers are a dict");
        Py_CLEAR(readers);
    }
    return readers;
}

/* An event of a descriptor, of which poll(2) says `mask`: `Kernel.process_events`. */
static int
process_event(PyObject *kernel, PyObject *readers, int fd, unsigned mask)
{
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL) {
        return -1;
    }
    int failed = -1;
    PyObject *running = mask == POLLIN ? PyDict_GetItemWithError(readers, number) : NULL;
    if (running != NULL) {
        Py_INCREF(running);
        failed = resume(kernel, running);
        Py_DECREF(running);
    }
    else if (!PyErr_Occurred()) {
        PyObject *event = Py_BuildValue("[(OI)]", number, mask);
        PyObject *done =
            event == NULL ? NULL : PyObject_CallMethodOneArg(kernel, str_process_events, event);
        Py_XDECREF(event);
        Py_XDECREF(done);
        failed = done == NULL ? -1 : 0;
    }
    Py_DECREF(number);
    return failed;
}

/* Intern names. -1: an exception is set. */
typedef struct {
    PyObject **name;
    const char *text;
} Name;

static int
intern(const Name *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((*names[i].name = PyUnicode_InternFromString(names[i].text)) == NULL) {
            return -1;
        }
    }
    return 0;
}

static int
step_init(void)
{
    static const Name names[] = {
        {&str_pause, "_pause"},     {&str_end, "_end"},       {&str_resume, "_resume"},
        {&str_current, "current"},  {&str_asleep, "asleep"},  {&str_set, "set"},
        {&str_watchdog_wakeup, "watchdog_wakeup"},
        {&str_readers, "readers"},  {&str_process_events, "process_events"},
    };
    return intern(names, sizeof names / sizeof *names);
}

/* Where slots are: all of them are found, or none is changed. */
typedef struct {
    Py_ssize_t *offset;
    PyTypeObject *type;
    const char *name;
} Slot;

static int
find_slots(const Slot *slots, size_t count)
{
    Py_ssize_t found[32];
    for (size_t i = 0; i < count; i++) {
        found[i] = offset_of(slots[i].type, slots[i].name);
        if (found[i] < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        *slots[i].offset = found[i];
    }
    return 0;
}

/* The class of tasks. */
static int
step_bind(PyTypeObject *tasks)
{
    const Slot slots[] = {
        {&task.coro, tasks, "coro"},
        {&task.context, tasks, "context"},
        {&task.wait, tasks, "wait"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0) {
        return -1;
    }
    Py_XSETREF(task.type, (PyTypeObject *)Py_NewRef(tasks));
    return 0;
}

#endif
