/* The path that each message takes, compiled: the Python of it stays beside it, as its reference.
 *
 * Two things are here, and nothing else:
 *
 * - `receive` and `send_all`: what `NonblockingStream.recv` and `.send_all` do where nothing is out
 *   of the ordinary; whatever is goes to the methods of the class, which know the rest;
 * - `turn`: one look of the kernel at its epoll, and a step of each task whose descriptor is
 *   readable; all other events go to `Kernel.process_events`.
 *
 * The objects are the Python ones: their slots are read and written where the class has put them.
 * So a stream may be used by either path at any time, and by both in turn.
 */

#include "_receiving.h"
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

/* So much is received on the stack first: then the bytes object is made in the size that it has. */
#define SCRATCH 16384
#define MAX_EVENTS 512

static struct {
    PyObject *finished;
    long not_now, not_yet;
    Py_ssize_t fd, write_fd, more, readable, recv_size, budget, received, sent;
} stream;

static PyObject *str_grow, *str_send_pieces, *str_send_in_turn, *str_send_rest;

/* -- receiving ----------------------------------------------------------------------------------- */

/* read(2), into a bytes object of the size that came. NULL with errno 0: an exception is set. */
static PyObject *
read_some(int fd, Py_ssize_t asked, Py_ssize_t *size)
{
    char scratch[SCRATCH];
    if (asked <= SCRATCH) {
        do {
            *size = read(fd, scratch, (size_t)asked);
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
    if (!self->waited) {
        self->waited = 1;
        *result = get(owner, stream.readable);
        return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
    }
    Py_ssize_t asked = self->most ? self->most : get_long(owner, stream.recv_size), size = 0;
    int fd = (int)get_long(owner, stream.fd);
    if ((asked < 0 || fd < 0) && PyErr_Occurred()) { /* a slot holds what is no number */
        return PYGEN_ERROR;
    }
    if (asked < 0) {
        PyErr_SetString(PyExc_ValueError, "recv() takes a number of bytes from 0 up");
        return PYGEN_ERROR;
    }
    PyObject *data = read_some(fd, asked, &size);
    if (data == NULL) {
        if (errno == EAGAIN && !PyErr_Occurred()) {
            *result = get(owner, stream.readable);
            return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
        }
        if (!PyErr_Occurred()) {
            raise_explained(owner, errno);
        }
        Py_CLEAR(self->stream);
        return PYGEN_ERROR;
    }
    if (add(owner, stream.received, size) < 0) {
        Py_DECREF(data);
        return PYGEN_ERROR;
    }
    if (size == 0 || size == asked) {
        put(owner, stream.more, Py_NewRef(Py_True));
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

static PyObject *
recv(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *max_bytes = max_bytes_of(args, count, names);
    if (max_bytes == NULL) {
        return NULL;
    }
    if (SLOT(self, stream.more) != Py_False) {
        return PyObject_CallMethodOneArg(self, str_recv_more, max_bytes);
    }
    Py_ssize_t most = number_of_bytes(max_bytes);
    return most < 0 ? NULL : new_receiving(self, most);
}

/* -- sending ------------------------------------------------------------------------------------- */

static PyObject *
send_all(PyObject *self, PyObject *data)
{
    if (PyList_Check(data) || PyTuple_Check(data)) {
        return PyObject_CallMethodOneArg(self, str_send_pieces, data);
    }
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int fd = (int)get_long(self, stream.write_fd), code = 0;
    if (fd < 0 && PyErr_Occurred()) {
        PyBuffer_Release(&view);
        return NULL;
    }
    Py_ssize_t size = view.len, sent;
    for (;;) {
        if (size <= SCRATCH) {
            sent = write(fd, view.buf, (size_t)size);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            sent = write(fd, view.buf, (size_t)size);
            Py_END_ALLOW_THREADS
        }
        code = errno;
        if (sent >= 0 || code != EINTR) {
            break;
        }
        if (PyErr_CheckSignals() < 0) {
            PyBuffer_Release(&view);
            return NULL;
        }
    }
    PyBuffer_Release(&view);
    if (sent < 0) {
        if (code == EAGAIN) {
            sent = 0;
        }
        else if (fd == stream.not_yet) {
            return PyObject_CallMethodOneArg(self, str_send_in_turn, data);
        }
        else {
            raise_explained(self, code);
            return NULL;
        }
    }
    if (add(self, stream.sent, sent) < 0) {
        return NULL;
    }
    if (sent == size) {
        if (count_send(self, stream.budget, stream.write_fd, stream.not_yet) < 0) {
            return NULL;
        }
        return Py_NewRef(stream.finished);
    }
    if (put(self, stream.write_fd, PyLong_FromLong(stream.not_now)) < 0) {
        return NULL;
    }
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

/* -- a turn of the loop ---------------------------------------------------------------------------- */

static PyObject *
turn(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "turn() takes a kernel, an epoll and seconds");
        return NULL;
    }
    PyObject *kernel = args[0];
    int epoll = (int)PyLong_AsLong(args[1]);
    double seconds = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    /* As select.epoll: rounded up, so that no deadline is met early. */
    int milliseconds = seconds <= 0 ? 0 : (int)(seconds * 1e3 + 0.999999);
    struct epoll_event events[MAX_EVENTS];
    int ready;
    if (milliseconds == 0) {
        ready = epoll_wait(epoll, events, MAX_EVENTS, 0);
    }
    else {
        if (PyObject_SetAttr(kernel, str_asleep, Py_True) < 0) {
            return NULL;
        }
        Py_BEGIN_ALLOW_THREADS
        ready = epoll_wait(epoll, events, MAX_EVENTS, milliseconds);
        Py_END_ALLOW_THREADS
        int code = errno;
        if (PyObject_SetAttr(kernel, str_asleep, Py_False) < 0 || wake_watchdog(kernel) < 0) {
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
    if (PyObject_SetAttr(kernel, str_current, Py_None) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* -- the module ------------------------------------------------------------------------------------ */

static PyMethodDef recv_method = {"recv", (PyCFunction)(void (*)(void))recv,
                                  METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef send_all_method = {"send_all", send_all, METH_O, NULL};

/* bind(stream class, task class, FINISHED, not now, not yet): `recv` and `send_all`, methods of that
   class. For one class in a process. */
static PyObject *
bind(PyObject *module, PyObject *args)
{
    (void)module;
    PyTypeObject *streams, *tasks;
    PyObject *finished;
    long not_now, not_yet;
    if (!PyArg_ParseTuple(args, "O!O!Oll", &PyType_Type, &streams, &PyType_Type, &tasks, &finished,
                          &not_now, &not_yet)) {
        return NULL;
    }
    const Slot slots[] = {
        {&stream.fd, streams, "_fd"},
        {&stream.write_fd, streams, "_write_fd"},
        {&stream.more, streams, "_more"},
        {&stream.readable, streams, "_readable"},
        {&stream.recv_size, streams, "_recv_size"},
        {&stream.budget, streams, "_budget"},
        {&stream.received, streams, "bytes_received"},
        {&stream.sent, streams, "bytes_sent"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0 || step_bind(tasks) < 0) {
        return NULL;
    }
    stream.not_now = not_now;
    stream.not_yet = not_yet;
    Py_XSETREF(stream.finished, Py_NewRef(finished));
    return Py_BuildValue("(NN)", PyDescr_NewMethod(streams, &recv_method),
                         PyDescr_NewMethod(streams, &send_all_method));
}

static PyMethodDef methods[] = {
    {"bind", bind, METH_VARARGS, NULL},
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
    if (intern(names, sizeof names / sizeof *names) < 0 || receiving_init() < 0) {
        return NULL;
    }
    return PyModule_Create(&definition);
}
