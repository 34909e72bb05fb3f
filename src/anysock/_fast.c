/* The path that each message takes, compiled: the Python of it stays beside it, as its reference.
 *
 * Seven things are here, and nothing else (a trace of them is in `_recording.h`):
 *
 * - `receive` and `send_all`: what `NonblockingStream.recv` and `.send_all` do where nothing is out
 *   of the ordinary; whatever is goes to the methods of the class, which know the rest;
 * - `turn`: one look of the kernel at its epoll, and a step of each task whose descriptor is
 *   readable; all other events go to `Kernel._process_rare_event`;
 * - `process_events` and `run_ready_tasks` of a kernel, whatever its poller is (`_running.h`);
 * - `recv` and `send_all` of a connection, which are its stream's (`_connection.h`);
 * - `accept`: what `socket.accept` does, for peers of IPv4 (`_accepting.h`);
 * - `Lines`: what an iterator over lines does where one line comes, and all of it (`_lines.h`);
 * - `Straight`: a step of a task goes to its handler, past the frames around that (`_straight.h`).
 *
 * The objects are the Python ones: their slots are read and written where the class has put them.
 * So a stream may be used by either path at any time, and by both in turn.
 */

#include "_accepting.h"
#include "_connection.h"
#include "_fields.h"
#include "_lines.h"
#include "_receiving.h"
#include "_recording.h"
#include "_running.h"
#include "_straight.h"
#include <errno.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* So much is received on the stack first: then the bytes object is made in the size that it has. */
#define SCRATCH 16384
#define MAX_EVENTS 512

static struct {
    PyObject *finished;
    long not_now, not_yet;
    Py_ssize_t readable, state;
} stream;

#define NUMBER(name, kind) ((Number){offsetof(Fields, name), kind})

static PyObject *str_grow, *str_send_pieces, *str_send_in_turn, *str_send_rest;

/* -- receiving ----------------------------------------------------------------------------------- */

/* read(2) and write(2), where they can't block. Those of glibc may be cancelled by pthread_cancel(3),
   and what they do for that takes them longer than all else on this side of the system call. */
static inline ssize_t
read_now(int fd, void *data, size_t size)
{
    return syscall(SYS_read, fd, data, size);
}

static inline ssize_t
write_now(int fd, const void *data, size_t size)
{
    return syscall(SYS_write, fd, data, size);
}

/* read(2), into a bytes object of the size that came. NULL with errno 0: an exception is set. */
static PyObject *
read_some(int fd, Py_ssize_t asked, Py_ssize_t *size)
{
    char scratch[SCRATCH];
    if (asked <= SCRATCH) {
        do {
            *size = read_now(fd, scratch, (size_t)asked);
        } while (*size < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
        if (*size < 0) {
            return NULL;
        }
        errno = 0;
        return PyBytes_FromStringAndSize(scratch, *size);
    }
    PyObject *data = PyBytes_FromStringAndSize(NULL, asked);
    if (data == NULL) {
        errno = 0;
        return NULL;
    }
    do {
        Py_BEGIN_ALLOW_THREADS
        *size = read(fd, PyBytes_AS_STRING(data), (size_t)asked);
        Py_END_ALLOW_THREADS
    } while (*size < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (*size < 0) {
        int code = errno;
        Py_DECREF(data);
        errno = code;
        return NULL;
    }
    if (*size < asked) {
        _PyBytes_Resize(&data, *size);
    }
    errno = 0;
    return data;
}

static PySendResult
receive_from(Receiving *self, PyObject *owner, PyObject **result)
{
    Fields *fields = (Fields *)owner;
    if (!self->waited) {
        self->waited = 1;
        if (!fields->more) {
            *result = get(owner, stream.readable);
            return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
        }
    }
    Py_ssize_t asked = self->most ? self->most : fields->recv_size, size = 0;
    if (asked < 0) {
        PyErr_SetString(PyExc_ValueError, "recv() takes a number of bytes from 0 up");
        return PYGEN_ERROR;
    }
    PyObject *data = read_some(fields->fd, asked, &size);
    if (data == NULL) {
        if (errno == EAGAIN && !PyErr_Occurred()) {
            fields->more = 0; /* a second task must not try, but meet the first one that waits */
            *result = get(owner, stream.readable);
            return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
        }
        if (!PyErr_Occurred()) {
            raise_explained(owner, errno);
        }
        fields->more = 1;
        Py_CLEAR(self->stream);
        return PYGEN_ERROR;
    }
    fields->received += size;
    fields->more = size == 0 || size == asked;
    if (fields->more) {
        PyObject *told;
        if (size == 0) {
            told = PyObject_CallMethodNoArgs(owner, str_received_nothing);
        }
        else {
            PyObject *number = PyLong_FromSsize_t(asked);
            told = number == NULL ? NULL : PyObject_CallMethodOneArg(owner, str_grow, number);
            Py_XDECREF(number);
        }
        if (told == NULL) {
            Py_CLEAR(self->stream);
            Py_DECREF(data);
            return PYGEN_ERROR;
        }
        Py_DECREF(told);
    }
    Py_CLEAR(self->stream);
    *result = data;
    return PYGEN_RETURN;
}

/* Whether a receive may try first, where there may be data that was not waited for: no end of the
   stream was told of, and it is not the others' turn. Then it counts. */
static int
may_try(PyObject *self, Py_ssize_t most)
{
    Fields *fields = (Fields *)self;
    PyObject *state = SLOT(self, stream.state);
    Py_ssize_t cost = 1 + ((most ? most : fields->recv_size) >> 16);
    if (state == NULL || !PyObject_TypeCheck(state, &Flags_Type) ||
        ((Flags *)state)->receiving_over || fields->budget <= cost) {
        return 0;
    }
    fields->budget -= (int)cost;
    return 1;
}

static PyObject *
recv_(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *max_bytes = max_bytes_of(args, count, names);
    if (max_bytes == NULL) {
        return NULL;
    }
    Py_ssize_t most = number_of_bytes(max_bytes);
    if (most < 0) {
        return NULL;
    }
    if (((Fields *)self)->more && !may_try(self, most)) {
        return PyObject_CallMethodOneArg(self, str_recv_more, max_bytes);
    }
    return new_receiving(self, most);
}

/* -- sending ------------------------------------------------------------------------------------- */

/* write(2), of bytes that are the caller's; -1 with errno 0: an exception is set. */
static Py_ssize_t
write_some(int fd, const char *bytes, Py_ssize_t size)
{
    for (;;) {
        Py_ssize_t sent;
        if (size <= SCRATCH) {
            sent = write_now(fd, bytes, (size_t)size);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            sent = write(fd, bytes, (size_t)size);
            Py_END_ALLOW_THREADS
        }
        if (sent >= 0 || errno != EINTR) {
            return sent;
        }
        if (PyErr_CheckSignals() < 0) {
            errno = 0;
            return -1;
        }
    }
}

/* The rest of a send of `size` bytes, of which `sent` have gone. */
static PyObject *
send_rest(PyObject *self, PyObject *data, Py_ssize_t sent, Py_ssize_t size)
{
    ((Fields *)self)->write_fd = (int)stream.not_now;
    PyObject *whole = PyMemoryView_FromObject(data), *rest = NULL, *gone = NULL, *result = NULL;
    if (whole != NULL) {
        rest = PySequence_GetSlice(whole, sent, size);
        gone = PyLong_FromSsize_t(sent);
    }
    if (rest != NULL && gone != NULL) {
        result = PyObject_CallMethodObjArgs(self, str_send_rest, rest, gone, NULL);
    }
    Py_XDECREF(whole);
    Py_XDECREF(rest);
    Py_XDECREF(gone);
    return result;
}

static PyObject *
send_all(PyObject *self, PyObject *data)
{
    Fields *fields = (Fields *)self;
    int fd = fields->write_fd, code;
    Py_ssize_t size, sent;
    if (PyBytes_CheckExact(data)) {
        size = PyBytes_GET_SIZE(data);
        sent = write_some(fd, PyBytes_AS_STRING(data), size);
        code = errno;
    }
    else if (PyList_Check(data) || PyTuple_Check(data)) {
        return PyObject_CallMethodOneArg(self, str_send_pieces, data);
    }
    else {
        Py_buffer view;
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return NULL;
        }
        size = view.len;
        sent = write_some(fd, view.buf, size);
        code = errno;
        PyBuffer_Release(&view);
    }
    if (sent < 0) {
        if (code == EAGAIN) {
            sent = 0;
        }
        else if (code == 0) {
            return NULL;
        }
        else if (fd == stream.not_yet) {
            return PyObject_CallMethodOneArg(self, str_send_in_turn, data);
        }
        else {
            raise_explained(self, code);
            return NULL;
        }
    }
    fields->sent += sent;
    if (sent < size) {
        return send_rest(self, data, sent, size);
    }
    if (count_send(self, NUMBER(budget, T_INT), NUMBER(write_fd, T_INT), stream.not_yet) < 0) {
        return NULL;
    }
    return Py_NewRef(stream.finished);
}

/* -- a turn of the loop ---------------------------------------------------------------------------- */

/* The arguments of `turn`: a kernel, an epoll, seconds. `recorder` is told of it, if there is one. */
static PyObject *
take_a_turn(Recorder *recorder, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "turn() takes a kernel, an epoll and seconds");
        return NULL;
    }
    PyObject *kernel = args[0];
    int epoll = (int)PyLong_AsLong(args[1]);
    double seconds = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred() || check_kernel(kernel) < 0) {
        return NULL;
    }
    /* As select.epoll: rounded up, so that no deadline is met early. */
    int milliseconds = seconds <= 0 ? 0 : (int)(seconds * 1e3 + 0.999999);
    struct epoll_event events[MAX_EVENTS];
    int ready;
    long long began = recorder == NULL ? 0 : clock_now();
    if (milliseconds == 0) {
        ready = epoll_wait(epoll, events, MAX_EVENTS, 0);
    }
    else {
        set_asleep(kernel, Py_True);
        Py_BEGIN_ALLOW_THREADS
        ready = epoll_wait(epoll, events, MAX_EVENTS, milliseconds);
        Py_END_ALLOW_THREADS
        int code = errno;
        set_asleep(kernel, Py_False);
        if (wake_watchdog(kernel) < 0) {
            return NULL;
        }
        errno = code;
    }
    if (ready < 0) {
        if (errno != EINTR) {
            return PyErr_SetFromErrno(PyExc_OSError);
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
        ready = 0;
    }
    if (recorder != NULL && tell_turn(recorder, began, ready) < 0) {
        return NULL;
    }
    PyObject *readers = readers_of(kernel);
    if (readers == NULL) {
        return NULL;
    }
    for (int i = 0; i < ready; i++) {
        if (process_event(kernel, readers, events[i].data.fd, events[i].events) < 0) {
            Py_DECREF(readers);
            return NULL;
        }
    }
    Py_DECREF(readers);
    put(kernel, loop.current, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

/* -- the module ------------------------------------------------------------------------------------ */

static PyMethodDef recv_method = {"recv", (PyCFunction)(void (*)(void))recv_,
                                  METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef send_all_method = {"send_all", send_all, METH_O, NULL};

/* bind(stream class, task class, kernel class, FINISHED, not now, not yet): `recv` and `send_all`,
   methods of that class. For one class in a process. */
static PyObject *
bind_stream(PyObject *module, PyObject *args)
{
    (void)module;
    PyTypeObject *streams, *tasks, *kernels;
    PyObject *finished;
    long not_now, not_yet;
    if (!PyArg_ParseTuple(args, "O!O!O!Oll", &PyType_Type, &streams, &PyType_Type, &tasks,
                          &PyType_Type, &kernels, &finished, &not_now, &not_yet)) {
        return NULL;
    }
    if (!PyType_IsSubtype(streams, &Fields_Type)) {
        PyErr_Format(PyExc_TypeError, "%s has no Fields", streams->tp_name);
        return NULL;
    }
    const Slot slots[] = {
        {&stream.readable, streams, "_readable"},
        {&stream.state, streams, "_state"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0 || step_bind(tasks, kernels) < 0) {
        return NULL;
    }
    recording_bind(streams, NUMBER(received, T_LONGLONG), NUMBER(sent, T_LONGLONG));
    stream.not_now = not_now;
    stream.not_yet = not_yet;
    Py_XSETREF(stream.finished, Py_NewRef(finished));
    return Py_BuildValue("(NN)", PyDescr_NewMethod(streams, &recv_method),
                         PyDescr_NewMethod(streams, &send_all_method));
}

static PyMethodDef methods[] = {
    {"accept", accept_, METH_VARARGS, NULL},
    {"bind", bind_stream, METH_VARARGS, NULL},
    {"bind_connection", bind_connection, METH_VARARGS, NULL},
    {"bind_kernel", bind_kernel, METH_VARARGS, NULL},
    {"record", record, METH_VARARGS, NULL},
    {"straight", (PyCFunction)(void (*)(void))straight, METH_FASTCALL, NULL},
    {"turn", (PyCFunction)(void (*)(void))turn, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "anysock._fast",
    .m_doc = "The path that each message takes, compiled.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__fast(void)
{
    static const Name names[] = {
        {&str_grow, "_grow"},
        {&str_send_pieces, "_send_pieces"},
        {&str_send_in_turn, "_send_in_turn"},
        {&str_send_rest, "_send_rest"},
    };
    if (intern(names, sizeof names / sizeof *names) < 0 || receiving_init() < 0 ||
        awaiting_init() < 0 || lines_init() < 0 || connection_init() < 0 || accepting_init() < 0 ||
        running_init() < 0 || PyType_Ready(&Fields_Type) < 0 || PyType_Ready(&Flags_Type) < 0 ||
        PyType_Ready(&Straight_Type) < 0) {
        return NULL;
    }
    straight_type = &Straight_Type;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL &&
        (recording_init(module) < 0 || PyModule_AddType(module, &Fields_Type) < 0 ||
         PyModule_AddType(module, &Flags_Type) < 0 ||
         PyModule_AddType(module, &Lines_Type) < 0 ||
         PyModule_AddType(module, &Straight_Type) < 0)) {
        Py_CLEAR(module);
    }
    return module;
}
