/* A trace of a compiled loop, of either module: a line for each turn, and for each step of a task that waits again for
 * the same. All other steps go to `ObservedContext.stepped`, as they do in Python.
 *
 * A message costs two looks at the clock and a line of text in a buffer; in Python, that would be
 * most of what the message takes in all.
 */

#ifndef ANYSOCK_RECORDING_H
#define ANYSOCK_RECORDING_H

#include "_step.h"
#include <time.h>

/* So many bytes are kept before they are handed over, and for so many nanoseconds. */
#define KEPT_BYTES 65536
#define KEPT_TIME 500000000LL
/* What a line takes at most, besides what the task waits for. */
#define LINE 200

typedef struct {
    PyObject_HEAD
    PyObject *hand_over;    /* called with no argument, to `take` */
    long long since;        /* the time that is 0 in the trace */
    long long handed_over;  /* when it was called last */
    size_t used;
    char text[KEPT_BYTES + 2 * LINE];
} Recorder;

static PyTypeObject recorder_type;

/* Slots of the wrapper of a task's context, and of what is known of a task. */
static struct {
    PyTypeObject *context, *known, *stream;
    Py_ssize_t inner, stepped, recorder, of_task;
    Py_ssize_t wait, waits, of_stream;
    Number number, got, sent;
    Number received_by, sent_by;
} observed;

static long long
clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* -- text --------------------------------------------------------------------------------------- */

static void
add_text(Recorder *self, const char *text, size_t size)
{
    memcpy(self->text + self->used, text, size);
    self->used += size;
}

#define ADD(self, literal) add_text(self, literal, sizeof literal - 1)

static void
add_number(Recorder *self, long long number)
{
    char digits[24], *end = digits + sizeof digits, *place = end;
    unsigned long long left = number < 0 ? 0 : (unsigned long long)number;
    do {
        *--place = (char)('0' + left % 10);
        left /= 10;
    } while (left);
    add_text(self, place, (size_t)(end - place));
}

static int
hand_over_if_due(Recorder *self, long long now)
{
    if (self->used < KEPT_BYTES && now - self->handed_over < KEPT_TIME) {
        return 0;
    }
    self->handed_over = now;
    PyObject *done = PyObject_CallNoArgs(self->hand_over);
    Py_XDECREF(done);
    if (self->used >= KEPT_BYTES) {
        self->used = 0; /* nobody has taken it, and there is no more room */
    }
    return done == NULL ? -1 : 0;
}

/* -- a step --------------------------------------------------------------------------------------- */

/* What a counter of the stream has risen by since the last step. */
static long long
risen(PyObject *stream, Number counter, PyObject *known, Number before)
{
    long long now = get_number(stream, counter), more = now - get_number(known, before);
    if (more != 0 && !PyErr_Occurred()) {
        put_number(known, before, now);
    }
    return more;
}

/* Whether the step can be told here: the task waits for the same as it did, and what it waits for was
   told before. */
static PyObject *
known_of(PyObject *context, PyObject *waits_for)
{
    PyObject *known = SLOT(context, observed.of_task);
    if (known == NULL || !Py_IS_TYPE(known, observed.known) ||
        SLOT(known, observed.wait) != waits_for) {
        return NULL;
    }
    PyObject *stream = SLOT(known, observed.of_stream), *waits = SLOT(known, observed.waits);
    return stream != NULL && Py_IS_TYPE(stream, observed.stream) && waits != NULL &&
                   PyUnicode_Check(waits)
               ? known
               : NULL;
}

static int
tell_step(Recorder *self, PyObject *known, long long began, long long ended)
{
    Py_ssize_t size;
    const char *waits = PyUnicode_AsUTF8AndSize(SLOT(known, observed.waits), &size);
    if (waits == NULL) {
        return -1;
    }
    if (size > LINE) {
        size = 0;
    }
    PyObject *stream = SLOT(known, observed.of_stream);
    long long got = risen(stream, observed.received_by, known, observed.got);
    long long sent = risen(stream, observed.sent_by, known, observed.sent);
    ADD(self, "{\"t\":");
    add_number(self, began - self->since);
    ADD(self, ",\"e\":\"step\",\"task\":");
    add_number(self, get_number(known, observed.number));
    ADD(self, ",\"ran\":");
    add_number(self, ended - began);
    add_text(self, waits, (size_t)size);
    if (got || sent) {
        ADD(self, ",\"got\":");
        add_number(self, got);
        ADD(self, ",\"sent\":");
        add_number(self, sent);
    }
    ADD(self, "}\n");
    return PyErr_Occurred() ? -1 : hand_over_if_due(self, ended);
}

/* Tell the observers, as `ObservedContext.run` does. What has been raised stays set. */
static int
tell_in_python(PyObject *context, PyObject *running, long long began, PyObject *wait)
{
    PyObject *kind, *error, *trace, *done = NULL;
    PyErr_Fetch(&kind, &error, &trace);
    if (kind != NULL) {
        PyErr_NormalizeException(&kind, &error, &trace);
    }
    PyObject *when = PyFloat_FromDouble((double)began * 1e-9);
    if (when != NULL) {
        PyObject *raised = error == NULL ? Py_None : error;
        done = PyObject_CallFunctionObjArgs(SLOT(context, observed.stepped), running, when, wait,
                                            raised, NULL);
        Py_DECREF(when);
    }
    if (done == NULL) {
        Py_XDECREF(kind);
        Py_XDECREF(error);
        Py_XDECREF(trace);
        return -1;
    }
    Py_DECREF(done);
    PyErr_Restore(kind, error, trace);
    return 0;
}

/* A step of a task that is observed. 1: it is none of ours. */
static int
recorded_step(PyObject *kernel, PyObject *running, PyObject *context)
{
    if (observed.context == NULL || !Py_IS_TYPE(context, observed.context)) {
        return 1;
    }
    PyObject *recorder = SLOT(context, observed.recorder), *inner = SLOT(context, observed.inner);
    if (recorder == NULL || !Py_IS_TYPE(recorder, &recorder_type) || inner == NULL ||
        !PyContext_CheckExact(inner) || SLOT(context, observed.stepped) == NULL) {
        return 1;
    }
    Py_INCREF(context);
    Py_INCREF(recorder);
    PyObject *result = NULL;
    long long began = clock_now();
    PySendResult how = send_to(kernel, running, inner, &result);
    int failed;
    PyObject *known;
    if (how == PYGEN_NEXT && result == SLOT(running, task.wait) &&
        (known = known_of(context, result)) != NULL) {
        Py_INCREF(known);
        failed = tell_step((Recorder *)recorder, known, began, clock_now());
        Py_DECREF(known);
        Py_DECREF(result);
    }
    else if (tell_in_python(context, running, began, how == PYGEN_NEXT ? result : Py_None) < 0) {
        Py_XDECREF(result);
        failed = -1;
    }
    else {
        failed = after_step(kernel, running, how, result);
    }
    Py_DECREF(recorder);
    Py_DECREF(context);
    return failed;
}

static int
tell_turn(Recorder *self, long long began, int events)
{
    long long now = clock_now();
    ADD(self, "{\"t\":");
    add_number(self, now - self->since);
    ADD(self, ",\"e\":\"turn\",\"slept\":");
    add_number(self, now - began);
    ADD(self, ",\"events\":");
    add_number(self, events);
    ADD(self, "}\n");
    return hand_over_if_due(self, now);
}

/* -- the object ------------------------------------------------------------------------------------- */

static PyObject *
recorder_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    double since;
    PyObject *hand_over;
    (void)keywords;
    if (!PyArg_ParseTuple(args, "dO", &since, &hand_over)) {
        return NULL;
    }
    Recorder *self = (Recorder *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->hand_over = Py_NewRef(hand_over);
        self->since = (long long)(since * 1e9);
        self->handed_over = clock_now();
        self->used = 0;
    }
    return (PyObject *)self;
}

static int
recorder_traverse(Recorder *self, visitproc visit, void *arg)
{
    Py_VISIT(self->hand_over);
    return 0;
}

static int
recorder_clear(Recorder *self)
{
    Py_CLEAR(self->hand_over);
    return 0;
}

static void
recorder_dealloc(Recorder *self)
{
    PyObject_GC_UnTrack(self);
    recorder_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
recorder_take(Recorder *self, PyObject *nothing)
{
    (void)nothing;
    PyObject *text = PyUnicode_DecodeUTF8(self->text, (Py_ssize_t)self->used, "surrogatepass");
    self->used = 0;
    return text;
}

/* Each module's own: `recorder` is told of it, if there is one. */
static PyObject *take_a_turn(Recorder *recorder, PyObject *const *args, Py_ssize_t count);

static PyObject *
recorder_turn(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    return take_a_turn((Recorder *)self, args, count);
}

static PyObject *
turn(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    return take_a_turn(NULL, args, count);
}

static PyMethodDef recorder_methods[] = {
    {"take", (PyCFunction)recorder_take, METH_NOARGS, "The lines that are kept; they are no more."},
    {"turn", (PyCFunction)(void (*)(void))recorder_turn, METH_FASTCALL,
     "As the function `turn`, and tell of it."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject recorder_type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock.Recorder",
    .tp_doc = "Recorder(since, hand_over): lines of a trace, from `since` (s) on.",
    .tp_basicsize = sizeof(Recorder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = recorder_new,
    .tp_traverse = (traverseproc)recorder_traverse,
    .tp_clear = (inquiry)recorder_clear,
    .tp_dealloc = (destructor)recorder_dealloc,
    .tp_methods = recorder_methods,
};

/* record(context class, known class): what `Recorder` looks into. For one of each in a process. */
static PyObject *
record(PyObject *module, PyObject *args)
{
    (void)module;
    PyTypeObject *contexts, *knowns;
    if (!PyArg_ParseTuple(args, "O!O!", &PyType_Type, &contexts, &PyType_Type, &knowns)) {
        return NULL;
    }
    const Slot slots[] = {
        {&observed.inner, contexts, "observed"},   {&observed.stepped, contexts, "stepped"},
        {&observed.recorder, contexts, "recorder"}, {&observed.of_task, contexts, "known"},
        {&observed.wait, knowns, "wait"},          {&observed.waits, knowns, "waits"},
        {&observed.of_stream, knowns, "stream"},
        {.type = knowns, .name = "number", .number = &observed.number},
        {.type = knowns, .name = "got", .number = &observed.got},
        {.type = knowns, .name = "sent", .number = &observed.sent},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0) {
        return NULL;
    }
    Py_XSETREF(observed.context, (PyTypeObject *)Py_NewRef(contexts));
    Py_XSETREF(observed.known, (PyTypeObject *)Py_NewRef(knowns));
    Py_RETURN_NONE;
}

/* Where the streams of that class count their bytes. */
static void
recording_bind(PyTypeObject *streams, Number received, Number sent)
{
    Py_XSETREF(observed.stream, (PyTypeObject *)Py_NewRef(streams));
    observed.received_by = received;
    observed.sent_by = sent;
}

static int
recording_init(PyObject *module)
{
    step_of_observed = recorded_step;
    return PyType_Ready(&recorder_type) < 0 ? -1 : PyModule_AddType(module, &recorder_type);
}

#endif
