/* The engine `uring`: rings and conduits, as objects of Python. */

#ifndef ANYSOCK_URING_OBJECTS_H
#define ANYSOCK_URING_OBJECTS_H

#include "_uring_flight.h"

/* -- the ring, for Python ---------------------------------------------------------------------------- */

static PyObject *
ring_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    if (PyTuple_GET_SIZE(args) || (names != NULL && PyDict_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "Ring() takes nothing");
        return NULL;
    }
    Ring *self = (Ring *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->fd = -1;
    }
    return (PyObject *)self;
}

static Watched *
watched_of(Ring *self, PyObject *number, int *fd)
{
    *fd = (int)PyLong_AsLong(number);
    if (*fd == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (*fd < 0 || *fd >= 1 << 29 || fcntl(*fd, F_GETFD) < 0) {
        errno = EBADF;
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    if (*fd >= self->watched_size) {
        int size = self->watched_size ? self->watched_size : 64;
        while (size <= *fd) {
            size *= 2;
        }
        Watched *larger = PyMem_Realloc(self->watched, (size_t)size * sizeof *larger);
        if (larger == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(larger + self->watched_size, 0,
               (size_t)(size - self->watched_size) * sizeof *larger);
        self->watched = larger;
        self->watched_size = size;
    }
    return &self->watched[*fd];
}

static int
forget(Ring *self, int fd)
{
    Watched *watched = &self->watched[fd];
    watched->interest = 0;
    if (!watched->armed) {
        return 0;
    }
    struct io_uring_sqe *operation = ask(self, IORING_OP_POLL_REMOVE, -1, NO_MATTER);
    if (operation == NULL) {
        return -1;
    }
    operation->addr =
        (unsigned long long)watched->generation << 32 | (unsigned)fd << 3 | POLLED;
    watched->generation++; /* what comes of it now is of no interest */
    watched->armed = 0;
    return 0;
}

static PyObject *
ring_register(Ring *self, PyObject *const *args, Py_ssize_t count)
{
    int fd;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "register() takes a descriptor and a mask");
        return NULL;
    }
    unsigned mask = (unsigned)PyLong_AsUnsignedLong(args[1]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Watched *watched = watched_of(self, args[0], &fd);
    if (watched == NULL || (watched->armed && watched->interest != mask && forget(self, fd) < 0)) {
        return NULL;
    }
    watched->interest = mask;
    if (mask && !watched->armed && !watched->again && poll_for(self, fd) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_unregister(Ring *self, PyObject *number)
{
    int fd;
    if (watched_of(self, number, &fd) == NULL || forget(self, fd) < 0 || hand_over(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
ring_poll(Ring *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "poll() takes seconds, a number of events and a kernel");
        return NULL;
    }
    double seconds = args[0] == Py_None ? 86400.0 : PyFloat_AsDouble(args[0]);
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *kernel = count == 3 ? args[2] : Py_None, *events = PyList_New(0);
    if (events == NULL || sleep_on(self, NULL, seconds) < 0 ||
        take_completions(self, kernel, events) < 0 || let_ready_go_on(self, kernel, 0) < 0) {
        Py_XDECREF(events);
        return NULL;
    }
    return events;
}

/* The arguments of `turn`: a kernel, a ring, seconds. */
static PyObject *
take_a_turn(Recorder *recorder, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !Py_IS_TYPE(args[1], &Ring_Type)) {
        PyErr_SetString(PyExc_TypeError, "turn() takes a kernel, a ring and seconds");
        return NULL;
    }
    PyObject *kernel = args[0];
    Ring *self = (Ring *)args[1];
    double seconds = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred() || check_kernel(kernel) < 0) {
        return NULL;
    }
    long long began = recorder == NULL ? 0 : clock_now();
    if (sleep_on(self, kernel, seconds) < 0) {
        return NULL;
    }
    if (recorder != NULL && tell_turn(recorder, began, complete(self)) < 0) {
        return NULL;
    }
    if (take_completions(self, kernel, NULL) < 0 || let_ready_go_on(self, kernel, 1) < 0) {
        return NULL;
    }
    put(kernel, loop.current, Py_NewRef(Py_None));
    Py_RETURN_NONE;
}

static PyObject *
ring_set_up(Ring *self, PyObject *Py_UNUSED(ignored))
{
    if (set_up(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Cancel what is in flight, and take its completions: until then, memory is the system's. */
static int
end_all(Ring *self)
{
    if (self->fd < 0) {
        return 0;
    }
    struct io_uring_sqe *operation = ask(self, IORING_OP_ASYNC_CANCEL, -1, NO_MATTER);
    if (operation == NULL) {
        return -1;
    }
    operation->cancel_flags = IORING_ASYNC_CANCEL_ALL | IORING_ASYNC_CANCEL_ANY;
    while (self->in_flight) {
        if (enter_and_wait(self, 1.0) < 0 && errno != EINTR && errno != EBUSY &&
            errno != EAGAIN) {
            break; /* ETIME: what can't be cancelled is kept, and never freed */
        }
        while (complete(self)) {
            struct io_uring_cqe done;
            take_completion(self, &done);
            int kind = KIND(done.user_data);
            if (done.flags & IORING_CQE_F_MORE) {
                continue;
            }
            if (kind != POLLED && kind != NO_MATTER) {
                Conduit *conduit = (Conduit *)(unsigned long)(done.user_data & ~7ULL);
                if (kind == RECEIVED || kind == READABLE) {
                    conduit->armed = 0;
                }
                else {
                    end_sending(conduit);
                    close_lingering(conduit);
                }
                Py_DECREF(conduit);
            }
        }
    }
    return 0;
}

static PyObject *
ring_close(Ring *self, PyObject *Py_UNUSED(ignored))
{
    int failed = end_all(self);
    self->closed = 1;
    unmap(self);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static void
ring_dealloc(Ring *self)
{
    unmap(self); /* what is in flight holds its conduit, and that the ring: so there is nothing */
    PyMem_Free(self->watched);
    PyMem_Free(self->again);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef ring_methods[] = {
    {"register", (PyCFunction)(void (*)(void))ring_register, METH_FASTCALL,
     "Report a descriptor when it is ready, as select.epoll."},
    {"modify", (PyCFunction)(void (*)(void))ring_register, METH_FASTCALL,
     "Report something else of it from now on."},
    {"unregister", (PyCFunction)ring_unregister, METH_O, "Report it no more."},
    {"poll", (PyCFunction)(void (*)(void))ring_poll, METH_FASTCALL,
     "Sleep, and return what is ready; wake whose operations are complete."},
    {"set_up", (PyCFunction)ring_set_up, METH_NOARGS, "Raises OSError where there is no io_uring."},
    {"close", (PyCFunction)ring_close, METH_NOARGS, "Cancel what is in flight, and give all back."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef ring_members[] = {
    {"calls", T_ULONG, offsetof(Ring, calls), READONLY, "How often io_uring_enter was called."},
    {"in_flight", T_ULONG, offsetof(Ring, in_flight), READONLY, "Operations without completion."},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject Ring_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock._uring.Ring",
    .tp_doc = "A pair of rings, set up by the thread that first uses it.",
    .tp_basicsize = sizeof(Ring),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = ring_new,
    .tp_dealloc = (destructor)ring_dealloc,
    .tp_methods = ring_methods,
    .tp_members = ring_members,
};

/* -- the conduit, for Python ------------------------------------------------------------------------- */

static PyObject *
conduit_new(PyTypeObject *type, PyObject *args, PyObject *names)
{
    PyObject *ring;
    int fd;
    if (names != NULL || !PyArg_ParseTuple(args, "O!i", &Ring_Type, &ring, &fd)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "Conduit() takes a ring and a descriptor");
        }
        return NULL;
    }
    Conduit *self = (Conduit *)type->tp_alloc(type, 0);
    if (self != NULL) {
        self->ring = (Ring *)Py_NewRef(ring);
        self->fd = fd;
        self->lingers = -1;
    }
    return (PyObject *)self;
}

static int
conduit_traverse(Conduit *self, visitproc visit, void *arg)
{
    Py_VISIT(self->ring);
    Py_VISIT(self->head);
    Py_VISIT(self->reader);
    Py_VISIT(self->sender);
    Py_VISIT(self->sending);
    return 0;
}

static int
conduit_clear(Conduit *self)
{
    /* (Not what is in flight: then there is a reference, and it is not cleared.) */
    Py_CLEAR(self->head);
    Py_CLEAR(self->reader);
    Py_CLEAR(self->sender);
    return 0;
}

static void
conduit_dealloc(Conduit *self)
{
    PyObject_GC_UnTrack(self);
    conduit_clear(self);
    end_sending(self);
    PyMem_Free(self->unread);
    if (self->lingers >= 0) {
        close(self->lingers);
    }
    Py_CLEAR(self->ring);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
conduit_arm(Conduit *self, PyObject *wanted)
{
    self->wanted = PyNumber_AsSsize_t(wanted, NULL);
    if (PyErr_Occurred() || arm(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
conduit_hand_over(Conduit *self, PyObject *Py_UNUSED(ignored))
{
    if (self->ring->unsubmitted && hand_over(self->ring) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
conduit_take(Conduit *self, PyObject *most)
{
    Py_ssize_t size = PyNumber_AsSsize_t(most, PyExc_OverflowError);
    if (size < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "take() takes a number of bytes from 0 up");
        }
        return NULL;
    }
    return take(self, (size_t)size);
}

static PyObject *
conduit_again(Conduit *self, PyObject *Py_UNUSED(ignored))
{
    if (!self->is_ready) {
        self->is_ready = 1;
        self->next = NULL;
        Conduit **last = &self->ring->ready;
        while (*last != NULL) {
            last = &(*last)->next;
        }
        *last = (Conduit *)Py_NewRef((PyObject *)self);
    }
    Py_RETURN_NONE;
}

static PyObject *
conduit_send(Conduit *self, PyObject *data)
{
    if (self->sending != NULL || self->fd < 0) {
        PyErr_SetString(PyExc_RuntimeError, "something is in flight, or the conduit is closed");
        return NULL;
    }
    if (begin_sending(self, data) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
conduit_queue(Conduit *self, PyObject *data)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (self->sending == NULL || self->pending_size + (size_t)view.len > MAX_QUEUED) {
        PyBuffer_Release(&view);
        Py_RETURN_FALSE;
    }
    int failed = keep(&self->pending, &self->pending_room, self->pending_size, (size_t)view.len);
    if (!failed) {
        memcpy(self->pending + self->pending_size, view.buf, (size_t)view.len);
        self->pending_size += (size_t)view.len;
    }
    PyBuffer_Release(&view);
    return failed ? NULL : Py_NewRef(Py_True);
}

static PyObject *
conduit_cancel_send(Conduit *self, PyObject *Py_UNUSED(ignored))
{
    self->pending_size = 0;
    if (self->sending != NULL && self->ring->fd >= 0) {
        self->at = self->view.len; /* what is left of it is not sent anew */
        if (cancel(self, SENT) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *
conduit_close(Conduit *self, PyObject *lingers)
{
    int keeps = PyObject_IsTrue(lingers);
    if (keeps < 0) {
        return NULL;
    }
    self->unusual = 1;
    Py_CLEAR(self->head);
    PyMem_Free(self->unread);
    self->unread = NULL;
    self->begin = self->end = self->room = 0;
    if (self->ring->fd >= 0) {
        if (self->armed && cancel(self, RECEIVED) < 0) {
            return NULL;
        }
        if (self->sending != NULL && !keeps) {
            /* (What is behind it is sent no more; and what was it, not again.) */
            self->pending_size = 0;
            self->at = self->view.len;
            if (cancel(self, SENT) < 0) {
                return NULL;
            }
        }
        if ((self->armed || self->sending != NULL || self->ring->unsubmitted) &&
            hand_over(self->ring) < 0) {
            return NULL;
        }
    }
    if (keeps && self->sending != NULL) {
        self->lingers = self->fd;
        Py_RETURN_TRUE;
    }
    if (self->lingers < 0) {
        self->fd = -1;
    }
    Py_RETURN_FALSE;
}

static PyObject *
conduit_unread(Conduit *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(unread(self));
}

static PyObject *
conduit_unsent(Conduit *self, void *Py_UNUSED(closure))
{
    Py_ssize_t size = (Py_ssize_t)self->pending_size;
    return PyLong_FromSsize_t(self->sending == NULL ? size : size + self->view.len - self->at);
}

/* A task that waits, or None. `offset` says which. */
static PyObject *
conduit_task(Conduit *self, void *offset)
{
    PyObject *found = SLOT(self, (Py_ssize_t)offset);
    return Py_NewRef(found == NULL ? Py_None : found);
}

static int
conduit_set_task(Conduit *self, PyObject *value, void *offset)
{
    PyObject *before = SLOT(self, (Py_ssize_t)offset);
    SLOT(self, (Py_ssize_t)offset) = value == Py_None ? NULL : Py_XNewRef(value);
    Py_XDECREF(before);
    return 0;
}

static PyMethodDef conduit_methods[] = {
    {"arm", (PyCFunction)conduit_arm, METH_O,
     "Ask for what comes, unless it is asked for; so many bytes are wanted of it."},
    {"hand_over", (PyCFunction)conduit_hand_over, METH_NOARGS,
     "Hand over what was asked for, here and elsewhere, now."},
    {"take", (PyCFunction)conduit_take, METH_O, "Up to so many bytes of what has come."},
    {"again", (PyCFunction)conduit_again, METH_NOARGS, "Let the reader go on in the next turn."},
    {"send", (PyCFunction)conduit_send, METH_O, "Send this, when nothing is in flight."},
    {"queue", (PyCFunction)conduit_queue, METH_O,
     "Send a copy of this behind what is in flight. False: nothing is, or there is no room."},
    {"cancel_send", (PyCFunction)conduit_cancel_send, METH_NOARGS, "Send no more of it."},
    {"close", (PyCFunction)conduit_close, METH_O,
     "Let nothing hold the descriptor any more. If it `lingers`, what is in flight is sent first, "
     "and then the descriptor is closed here: True."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef conduit_members[] = {
    {"ended", T_BOOL, offsetof(Conduit, ended), READONLY, "Whether nothing more comes."},
    {"unusual", T_BOOL, offsetof(Conduit, unusual), 0, "Whether a receive must ask the state."},
    {"error", T_INT, offsetof(Conduit, error), READONLY, "Why nothing more comes; 0: its end."},
    {"send_error", T_INT, offsetof(Conduit, send_error), READONLY, "Why nothing can be sent."},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef conduit_getset[] = {
    {"reader", (getter)conduit_task, (setter)conduit_set_task, "The task that waits to receive.",
     (void *)offsetof(Conduit, reader)},
    {"sender", (getter)conduit_task, (setter)conduit_set_task, "The task that waits to send.",
     (void *)offsetof(Conduit, sender)},
    {"unread", (getter)conduit_unread, NULL, "Bytes that have come, and were not taken.", NULL},
    {"unsent", (getter)conduit_unsent, NULL, "Bytes in flight, and behind those.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject Conduit_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock._uring.Conduit",
    .tp_doc = "What is in flight on one connected socket.",
    .tp_basicsize = sizeof(Conduit),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = conduit_new,
    .tp_traverse = (traverseproc)conduit_traverse,
    .tp_clear = (inquiry)conduit_clear,
    .tp_dealloc = (destructor)conduit_dealloc,
    .tp_methods = conduit_methods,
    .tp_members = conduit_members,
    .tp_getset = conduit_getset,
};

#endif
