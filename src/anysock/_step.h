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

/* Where an object has a number: in a slot, as an object of Python, or in a field of `_fields.h`. */
typedef struct {
    Py_ssize_t at;
    int kind; /* as in PyMemberDef */
} Number;

/* Where a class keeps one of its `__slots__`, or a field. `kind` as in PyMemberDef; 0: of a number,
   any of those that `Number` knows. */
static int
find_member(PyTypeObject *type, const char *name, int kind, Number *place)
{
    PyObject *found = PyObject_GetAttrString((PyObject *)type, name);
    if (found == NULL) {
        return -1;
    }
    int has = 0;
    if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        *place = (Number){member->offset, member->type};
        has = kind ? member->type == kind
                   : member->type == T_OBJECT_EX || member->type == T_LONGLONG ||
                         member->type == T_PYSSIZET || member->type == T_INT;
    }
    Py_DECREF(found);
    if (!has) {
        PyErr_Format(PyExc_TypeError, "%s.%s is no slot", type->tp_name, name);
        return -1;
    }
    return 0;
}

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

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

static inline long long
get_number(PyObject *object, Number number)
{
    char *place = (char *)object + number.at;
    switch (number.kind) {
    case T_LONGLONG:
        return *(long long *)place;
    case T_PYSSIZET:
        return *(Py_ssize_t *)place;
    case T_INT:
        return *(int *)place;
    default: {
        PyObject *value = *(PyObject **)place;
        if (value == NULL) {
            PyErr_SetString(PyExc_AttributeError, "a slot of the stream was deleted");
            return -1;
        }
        return PyLong_AsLongLong(value);
    }
    }
}

static inline int
put_number(PyObject *object, Number number, long long value)
{
    char *place = (char *)object + number.at;
    switch (number.kind) {
    case T_LONGLONG:
        *(long long *)place = value;
        return 0;
    case T_PYSSIZET:
        *(Py_ssize_t *)place = (Py_ssize_t)value;
        return 0;
    case T_INT:
        *(int *)place = (int)value;
        return 0;
    default:
        return put(object, number.at, PyLong_FromLongLong(value));
    }
}

/* Let a number be more by `more`; return what it is then. -1: perhaps an exception is set. */
static inline long long
add(PyObject *object, Number number, Py_ssize_t more)
{
    long long now = get_number(object, number);
    if (now == -1 && PyErr_Occurred()) {
        return -1;
    }
    now += more;
    return put_number(object, number, now) < 0 ? -1 : now;
}

/* The same, of a number that only rises. -1: an exception is set. */
static inline int
count(PyObject *object, Number number, Py_ssize_t more)
{
    return add(object, number, more) == -1 && PyErr_Occurred() ? -1 : 0;
}

static struct {
    PyTypeObject *type;
    Py_ssize_t coro, context, outcome, wait, straight;
} task;

static struct {
    PyTypeObject *type;
    Py_ssize_t current, asleep, watchdog_wakeup, readers;
} loop;

static PyObject *str_pause, *str_end, *str_resume, *str_set, *str_rare_event;

/* -- a step of a task ------------------------------------------------------------------------- */

/* The exception that is set, as one object; it is set no more. */
static PyObject *
take_error(void)
{
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    PyErr_NormalizeException(&kind, &error, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(kind);
    Py_XDECREF(trace);
    return error;
}

/* `StopIteration(value)`. NULL: an exception is set. */
static PyObject *
stop_iteration(PyObject *value /* stolen */)
{
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
    Py_DECREF(value);
    return stop;
}

static int
end_task(PyObject *kernel, PyObject *running, PyObject *value /* stolen; NULL: it has raised */)
{
    PyObject *ended = value != NULL ? stop_iteration(value) : take_error();
    if (ended == NULL) {
        return -1;
    }
    PyObject *done = PyObject_CallMethodObjArgs(kernel, str_end, running, ended, NULL);
    Py_DECREF(ended);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* -- past the frames around a handler ------------------------------------------------------------ */

/* What the frames around a handler await in its place: a step of `task` goes to `awaited` straight, and
   only its end to those frames. `_straight.h` has the rest of it.

   (Each idle connection has one: two pointers, and no more.) */
typedef struct {
    PyObject_HEAD
    PyObject *awaited; /* once it is over: what it has raised, to be handed on; or NULL */
    PyObject *task;    /* whose slot `straight` this is; NULL: it is over */
} Straight;

/* The one of `_fast`; NULL: there is none. */
static PyTypeObject *straight_type;

static void
straight_over(Straight *self, PyObject *raised /* stolen; NULL: nothing is to be handed on */)
{
    PyObject *running = self->task;
    self->task = NULL;
    Py_XSETREF(self->awaited, raised);
    if (running != NULL && SLOT(running, task.straight) == (PyObject *)self) {
        put(running, task.straight, Py_NewRef(Py_None));
    }
    Py_XDECREF(running);
}

/* A step of `coro`, the coroutine of a task. */
static inline PySendResult
send_straight(PyObject *running, PyObject *coro, PyObject **result)
{
    Straight *straight = (Straight *)SLOT(running, task.straight);
    if (straight != NULL && Py_IS_TYPE(straight, straight_type) && straight->task != NULL) {
        Py_INCREF(straight); /* held: the step may end it */
        PyObject *awaited = Py_NewRef(straight->awaited);
        PySendResult how = PyIter_Send(awaited, Py_None, result);
        Py_DECREF(awaited);
        if (how == PYGEN_NEXT) {
            Py_DECREF(straight);
            return how;
        }
        PyObject *ended = how == PYGEN_RETURN ? stop_iteration(*result) : take_error();
        *result = NULL;
        straight_over(straight, ended);
        Py_DECREF(straight);
        if (ended == NULL) { /* there is no memory for it */
            return PYGEN_ERROR;
        }
    }
    return PyIter_Send(coro, Py_None, result);
}

/* What follows a step in `context`, which was entered for it. */
static inline PySendResult
leave_context(PyObject *context, PySendResult how, PyObject **result)
{
    if (how == PYGEN_ERROR) {
        PyObject *kind, *error, *trace;
        PyErr_Fetch(&kind, &error, &trace);
        PyContext_Exit(context);
        PyErr_Restore(kind, error, trace);
    }
    else if (PyContext_Exit(context) < 0) {
        Py_CLEAR(*result);
        how = PYGEN_ERROR;
    }
    return how;
}

/* A step of a task in its context. */
static inline PySendResult
send_to(PyObject *kernel, PyObject *running, PyObject *context, PyObject **result)
{
    *result = NULL;
    put(kernel, loop.current, Py_NewRef(running));
    if (PyContext_Enter(context) < 0) {
        return PYGEN_ERROR;
    }
    PyObject *coro = Py_NewRef(SLOT(running, task.coro));
    Py_INCREF(context);
    PySendResult how = send_straight(running, coro, result);
    Py_DECREF(coro);
    how = leave_context(context, how, result);
    Py_DECREF(context);
    return how;
}

/* A task has yielded `wait`, which is not the wait that it was on before. */
static inline int
pause_task(PyObject *kernel, PyObject *running, PyObject *wait /* stolen */)
{
    PyObject *done = PyObject_CallMethodObjArgs(kernel, str_pause, running, wait, NULL);
    Py_DECREF(wait);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What follows a step: the task waits again, for the same or for something else, or has ended. */
static inline int
after_step(PyObject *kernel, PyObject *running, PySendResult how, PyObject *result /* stolen */)
{
    if (how != PYGEN_NEXT) {
        return end_task(kernel, running, result);
    }
    if (result == SLOT(running, task.wait)) { /* it is still entered */
        Py_DECREF(result);
        return 0;
    }
    return pause_task(kernel, running, result);
}

/* A step of a task whose context is an observer's. 1: it is to be made in Python. */
static int (*step_of_observed)(PyObject *kernel, PyObject *running, PyObject *context);

/* Run a task until it pauses again, or ends: `Kernel._resume`. */
static int
resume(PyObject *kernel, PyObject *running)
{
    PyObject *context = Py_IS_TYPE(running, task.type) ? SLOT(running, task.context) : NULL;
    if (context == NULL || !PyContext_CheckExact(context) || SLOT(running, task.coro) == NULL) {
        int failed = 1;
        if (step_of_observed != NULL && context != NULL && SLOT(running, task.coro) != NULL) {
            failed = step_of_observed(kernel, running, context);
        }
        if (failed <= 0) {
            return failed;
        }
        PyObject *done = PyObject_CallMethodOneArg(kernel, str_resume, running);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *result;
    PySendResult how = send_to(kernel, running, context, &result);
    return after_step(kernel, running, how, result);
}

/* Whether this is a kernel: its slots are where they were found. -1: an exception is set. */
static int
check_kernel(PyObject *kernel)
{
    if (loop.type == NULL || !PyObject_TypeCheck(kernel, loop.type)) {
        PyErr_SetString(PyExc_TypeError, "turn() takes a kernel");
        return -1;
    }
    return 0;
}

static void
set_asleep(PyObject *kernel, PyObject *asleep)
{
    put(kernel, loop.asleep, Py_NewRef(asleep));
}

/* The watchdog sleeps as long as the loop does. */
static int
wake_watchdog(PyObject *kernel)
{
    PyObject *event = SLOT(kernel, loop.watchdog_wakeup);
    if (event == NULL || event == Py_None) {
        return 0;
    }
    Py_INCREF(event);
    PyObject *done = PyObject_CallMethodNoArgs(event, str_set);
    Py_DECREF(event);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The tasks that wait to read, by descriptor: a new reference. */
static PyObject *
readers_of(PyObject *kernel)
{
    PyObject *readers = SLOT(kernel, loop.readers);
    if (readers == NULL || !PyDict_Check(readers)) {
        PyErr_SetString(PyExc_TypeError, "a kernel's readers are a dict");
        return NULL;
    }
    return Py_NewRef(readers);
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
        PyObject *kind = PyLong_FromUnsignedLong(mask);
        PyObject *done = kind == NULL ? NULL
                                      : PyObject_CallMethodObjArgs(kernel, str_rare_event, number,
                                                                   kind, NULL);
        Py_XDECREF(kind);
        Py_XDECREF(done);
        failed = done == NULL ? -1 : 0;
    }
    Py_DECREF(number);
    return failed;
}

/* What a step has come to, as a generator's `send` says it. */
static PyObject *
as_generator(PySendResult how, PyObject *result /* stolen */)
{
    if (how != PYGEN_RETURN) {
        return result;
    }
    PyObject *stop = stop_iteration(result);
    if (stop != NULL) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
    }
    return NULL;
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
        {&str_pause, "_pause"}, {&str_end, "_end"}, {&str_resume, "_resume"},
        {&str_set, "set"},      {&str_rare_event, "_process_rare_event"},
    };
    return intern(names, sizeof names / sizeof *names);
}

/* Where slots, and numbers, are: all of them are found, or none is changed. */
typedef struct {
    Py_ssize_t *offset;
    PyTypeObject *type;
    const char *name;
    Number *number; /* in the place of `offset` */
} Slot;

static int
find_slots(const Slot *slots, size_t count)
{
    Number found[32];
    for (size_t i = 0; i < count; i++) {
        int kind = slots[i].number == NULL ? T_OBJECT_EX : 0;
        if (find_member(slots[i].type, slots[i].name, kind, &found[i]) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (slots[i].number != NULL) {
            *slots[i].number = found[i];
        }
        else {
            *slots[i].offset = found[i].at;
        }
    }
    return 0;
}

/* The classes of tasks, and of the kernel that runs them. */
static int
step_bind(PyTypeObject *tasks, PyTypeObject *kernels)
{
    const Slot slots[] = {
        {&task.coro, tasks, "coro"},
        {&task.context, tasks, "context"},
        {&task.outcome, tasks, "outcome"},
        {&task.wait, tasks, "wait"},
        {&task.straight, tasks, "_result"},
        {&loop.current, kernels, "current"},
        {&loop.asleep, kernels, "asleep"},
        {&loop.watchdog_wakeup, kernels, "watchdog_wakeup"},
        {&loop.readers, kernels, "readers"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0) {
        return -1;
    }
    Py_XSETREF(task.type, (PyTypeObject *)Py_NewRef(tasks));
    Py_XSETREF(loop.type, (PyTypeObject *)Py_NewRef(kernels));
    return 0;
}

#endif
