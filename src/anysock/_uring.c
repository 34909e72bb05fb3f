/* The rings of io_uring, and what is in flight on them: the compiled part of the engine `uring`.
 *
 * - `Ring`: the system calls and the shared memory (io_uring(7)); a poller for our kernel, for what
 *   has no operation of its own (listeners, the wake-up pipe, datagrams); and one turn of the loop,
 *   in a single system call: hand over what was asked for, sleep, take what is complete;
 * - `Conduit`: one connected socket: a receive that stays (multishot), into buffers that all share,
 *   what it has brought and nobody has taken yet, and the send that is in flight;
 * - `recv` and `send_all`, the methods of a stream that each message takes, where nothing is out of
 *   the ordinary; whatever is goes to the methods of the class, which know the rest.
 *
 * Who owns what: an operation in flight holds a reference to its conduit, and a send to its bytes,
 * until its completion has been taken. So nothing is freed that the system may still read, whatever
 * becomes of the stream. What was received is copied out of the shared buffers when it is taken; in
 * bulk, word that something is there is waited for in the place of it, and no memory is.
 *
 * `_uring_rings.h` has the system calls, `_uring_flight.h` what is in flight and what comes of it,
 * `_uring_objects.h` the objects; here are the methods of a stream, and the module.
 */

#include "_uring_objects.h"

/* -- a stream's recv and send_all ---------------------------------------------------------------------- */

static Conduit *
conduit_of(PyObject *self)
{
    PyObject *found = SLOT(self, stream.conduit);
    if (found == NULL || !Py_IS_TYPE(found, &Conduit_Type)) {
        PyErr_SetString(PyExc_AttributeError, "the stream has no conduit");
        return NULL;
    }
    return (Conduit *)found;
}

static PySendResult
receive_from(Receiving *self, PyObject *owner, PyObject **result)
{
    Conduit *conduit = conduit_of(owner);
    if (conduit == NULL) {
        return PYGEN_ERROR;
    }
    PyObject *data = NULL;
    if (self->waited && conduit->unusual) {
        raise_explained(owner, EBADF);
    }
    else if (self->waited && unread(conduit)) {
        data = take(conduit, (size_t)self->most);
        if (data != NULL && count(owner, stream.received, PyBytes_GET_SIZE(data)) < 0) {
            Py_CLEAR(data);
        }
    }
    else if (self->waited && conduit->ended) {
        if (conduit->error) {
            raise_explained(owner, conduit->error);
        }
        else {
            data = PyObject_CallMethodNoArgs(owner, str_received_nothing);
        }
    }
    else {
        self->waited = 1;
        conduit->wanted = self->most;
        if (arm(conduit) < 0) {
            return PYGEN_ERROR;
        }
        *result = get(owner, stream.readable);
        return *result == NULL ? PYGEN_ERROR : PYGEN_NEXT;
    }
    Py_CLEAR(self->stream);
    *result = data;
    return data == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PyObject *
recv_(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *max_bytes = max_bytes_of(args, count, names);
    if (max_bytes == NULL) {
        return NULL;
    }
    Conduit *conduit = conduit_of(self);
    if (conduit == NULL) {
        return NULL;
    }
    if (conduit->unusual || conduit->ended || conduit->begin != conduit->end ||
        conduit->head != NULL) {
        return PyObject_CallMethodOneArg(self, str_recv_more, max_bytes);
    }
    Py_ssize_t most = number_of_bytes(max_bytes);
    if (most < 0) {
        return NULL;
    }
    return new_receiving(self, most ? most : (Py_ssize_t)get_number(self, stream.most));
}

static PyObject *
send_all(PyObject *self, PyObject *data)
{
    Conduit *conduit = conduit_of(self);
    if (conduit == NULL) {
        return NULL;
    }
    if (!PyBytes_CheckExact(data) || conduit->sending != NULL || conduit->send_error ||
        conduit->fd < 0 || PyBytes_GET_SIZE(data) > MAX_IN_FLIGHT || !PyBytes_GET_SIZE(data) ||
        get_number(self, stream.write_fd) < 0) {
        return PyObject_CallMethodOneArg(self, str_send_more, data);
    }
    if (begin_sending(conduit, data) < 0 || count(self, stream.sent, PyBytes_GET_SIZE(data)) < 0) {
        return NULL;
    }
    /* A lot is handed over now, while it is in the processor's cache. */
    if (PyBytes_GET_SIZE(data) >= BULK && hand_over(conduit->ring) < 0) {
        return NULL;
    }
    if (count_send(self, stream.budget, stream.write_fd, stream.not_yet) < 0) {
        return NULL;
    }
    return Py_NewRef(stream.finished);
}

/* -- the module ---------------------------------------------------------------------------------------- */

static PyMethodDef recv_method = {"recv", (PyCFunction)(void (*)(void))recv_,
                                  METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef send_all_method = {"send_all", send_all, METH_O, NULL};

/* bind(stream class, task class, kernel class, FINISHED, not yet, class Straight or None): `recv` and
   `send_all`, methods of that class. */
static PyObject *
bind_stream(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *streams, *tasks, *kernels;
    PyObject *finished, *straight;
    long not_yet;
    if (!PyArg_ParseTuple(args, "O!O!O!OlO", &PyType_Type, &streams, &PyType_Type, &tasks,
                          &PyType_Type, &kernels, &finished, &not_yet, &straight)) {
        return NULL;
    }
    if (straight != Py_None &&
        (!PyType_Check(straight) || ((PyTypeObject *)straight)->tp_basicsize != sizeof(Straight))) {
        PyErr_SetString(PyExc_TypeError, "bind() takes the class Straight of _fast, or None");
        return NULL;
    }
    const Slot slots[] = {
        {&stream.conduit, streams, "conduit"},
        {&stream.readable, streams, "_readable"},
        {.type = streams, .name = "_write_fd", .number = &stream.write_fd},
        {.type = streams, .name = "_max_recv_size", .number = &stream.most},
        {.type = streams, .name = "_budget", .number = &stream.budget},
        {.type = streams, .name = "bytes_received", .number = &stream.received},
        {.type = streams, .name = "bytes_sent", .number = &stream.sent},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0 || step_bind(tasks, kernels) < 0) {
        return NULL;
    }
    recording_bind(streams, stream.received, stream.sent);
    Py_XSETREF(straight_type,
               straight == Py_None ? NULL : (PyTypeObject *)Py_NewRef(straight));
    stream.not_yet = not_yet;
    Py_XSETREF(stream.finished, Py_NewRef(finished));
    return Py_BuildValue("(NN)", PyDescr_NewMethod(streams, &recv_method),
                         PyDescr_NewMethod(streams, &send_all_method));
}

static PyMethodDef methods[] = {
    {"bind", bind_stream, METH_VARARGS, NULL},
    {"record", record, METH_VARARGS, NULL},
    {"turn", (PyCFunction)(void (*)(void))turn, METH_FASTCALL,
     "Sleep, and resume whose descriptors are ready and whose operations are complete."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "anysock._uring",
    .m_doc = "The rings of io_uring, and what is in flight on them.",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__uring(void)
{
    static const Name names[] = {{&str_send_more, "_send_more"}, {&str_wake, "wake"}};
    if (intern(names, sizeof names / sizeof *names) < 0 || receiving_init() < 0 ||
        PyType_Ready(&Ring_Type) < 0 || PyType_Ready(&Conduit_Type) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || recording_init(module) < 0 ||
        PyModule_AddType(module, &Ring_Type) < 0 ||
        PyModule_AddType(module, &Conduit_Type) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
