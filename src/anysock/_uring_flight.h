/* The engine `uring`: what is in flight on a socket, and what comes of it. */

#ifndef ANYSOCK_URING_FLIGHT_H
#define ANYSOCK_URING_FLIGHT_H

#include "_uring_rings.h"

/* -- conduits: receiving ------------------------------------------------------------------------- */

static int
arm(Conduit *self)
{
    if (self->armed || self->ended || self->fd < 0) {
        return 0;
    }
    int polled = self->bulk;
    struct io_uring_sqe *operation =
        ask(self->ring, polled ? IORING_OP_POLL_ADD : IORING_OP_RECV, self->fd,
            (unsigned long)self | (polled ? READABLE : RECEIVED));
    if (operation == NULL) {
        return -1;
    }
    if (polled) {
        operation->poll32_events = POLLIN;
    }
    else {
        operation->flags = IOSQE_BUFFER_SELECT;
        operation->ioprio = RECV_MULTISHOT;
        operation->buf_group = 0;
    }
    Py_INCREF(self);
    self->armed = 1;
    self->polled = (char)polled;
    self->cancelling = 0;
    return 0;
}

static int
cancel(Conduit *self, int kind)
{
    struct io_uring_sqe *operation = ask(self->ring, IORING_OP_ASYNC_CANCEL, -1, NO_MATTER);
    if (operation == NULL) {
        return -1;
    }
    if (kind == SENT && self->full) {
        kind = WRITABLE;
    }
    else if (kind == RECEIVED && self->polled) {
        kind = READABLE;
    }
    operation->addr = (unsigned long)self | (unsigned)kind;
    return 0;
}

static int
keep(char **where, size_t *room, size_t size, size_t more)
{
    if (size + more > *room) {
        size_t wanted = (size + more) * 3 / 2 < 4096 ? 4096 : (size + more) * 3 / 2;
        char *larger = PyMem_Realloc(*where, wanted);
        if (larger == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *where = larger;
        *room = wanted;
    }
    return 0;
}

static int
put_unread(Conduit *self, const char *data, size_t size)
{
    if (self->begin == self->end) {
        self->begin = self->end = 0;
    }
    if (keep(&self->unread, &self->room, self->end, size) < 0) {
        return -1;
    }
    memcpy(self->unread + self->end, data, size);
    self->end += size;
    return 0;
}

static size_t
unread(Conduit *self)
{
    return self->end - self->begin + (self->head == NULL ? 0 : (size_t)PyBytes_GET_SIZE(self->head));
}

/* Up to so many bytes of what has come. */
static PyObject *
take(Conduit *self, size_t most)
{
    if (self->head != NULL) {
        PyObject *data = self->head;
        size_t size = (size_t)PyBytes_GET_SIZE(data);
        self->head = NULL; /* (nothing else has come before it) */
        if (size <= most) {
            return data;
        }
        int failed = put_unread(self, PyBytes_AS_STRING(data), size);
        Py_DECREF(data);
        if (failed) {
            return NULL;
        }
    }
    size_t size = self->end - self->begin;
    size = size < most ? size : most;
    PyObject *data = PyBytes_FromStringAndSize(self->unread + self->begin, (Py_ssize_t)size);
    if (data != NULL) {
        self->begin += size;
        if (self->begin == self->end) {
            PyMem_Free(self->unread); /* an idle connection keeps none */
            self->unread = NULL;
            self->begin = self->end = self->room = 0;
        }
    }
    return data;
}

/* -- conduits: sending ----------------------------------------------------------------------------- */

static int
send_on(Conduit *self)
{
    struct io_uring_sqe *operation =
        ask(self->ring, IORING_OP_SEND, self->fd, (unsigned long)self | SENT);
    if (operation == NULL) {
        return -1;
    }
    operation->addr = (unsigned long)((char *)self->view.buf + self->at);
    operation->len = (unsigned)(self->view.len - self->at);
    /* Where there is no room it is told, and then waited for: the ring gives a send that it has
       tried a hundred times in vain to a thread, which stays. */
    operation->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    Py_INCREF(self);
    self->full = 0;
    return 0;
}

static int
send_when_writable(Conduit *self)
{
    struct io_uring_sqe *operation =
        ask(self->ring, IORING_OP_POLL_ADD, self->fd, (unsigned long)self | WRITABLE);
    if (operation == NULL) {
        return -1;
    }
    operation->poll32_events = POLLOUT;
    Py_INCREF(self);
    self->full = 1;
    return 0;
}

/* Begin to send `data`, when nothing is in flight. It is held until all of it is sent. */
static int
begin_sending(Conduit *self, PyObject *data)
{
    if (PyObject_GetBuffer(data, &self->view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    self->sending = Py_NewRef(data);
    self->at = 0;
    if (send_on(self) < 0) {
        PyBuffer_Release(&self->view);
        Py_CLEAR(self->sending);
        return -1;
    }
    return 0;
}

static void
end_sending(Conduit *self)
{
    if (self->sending != NULL) {
        PyBuffer_Release(&self->view);
        Py_CLEAR(self->sending);
    }
    PyMem_Free(self->pending);
    self->pending = NULL;
    self->pending_size = self->pending_room = 0;
}

static void
close_lingering(Conduit *self)
{
    if (self->lingers >= 0 && self->sending == NULL) {
        close(self->lingers);
        self->lingers = self->fd = -1;
    }
}

/* -- what is complete ------------------------------------------------------------------------------ */

/* Let a task go on that waits at a conduit. Straight from here (`direct`), it still stands where it
   waited, as the tasks do that our kernel resumes. */
static int
go_on(PyObject *kernel, PyObject **waiting, int direct)
{
    PyObject *running = *waiting;
    if (running == NULL) {
        return 0;
    }
    Py_INCREF(running);
    int failed;
    if (direct) {
        failed = resume(kernel, running);
    }
    else {
        Py_CLEAR(*waiting);
        PyObject *done = PyObject_CallMethodOneArg(kernel, str_wake, running);
        Py_XDECREF(done);
        failed = done == NULL ? -1 : 0;
    }
    Py_DECREF(running);
    return failed;
}

static int
received(Ring *self, Conduit *conduit, int result, unsigned flags, PyObject *kernel, int direct)
{
    int failed = 0;
    if (!(flags & IORING_CQE_F_MORE)) {
        conduit->armed = 0;
    }
    if (result > 0) {
        unsigned number = flags >> IORING_CQE_BUFFER_SHIFT;
        char *data = self->memory + (size_t)number * self->buffer_size;
        if (self->incremental) {
            data += self->used[number];
            self->used[number] += (unsigned)result;
        }
        if (conduit->unusual) {
            ; /* nobody wants it any more */
        }
        else if (conduit->reader != NULL && conduit->head == NULL && conduit->begin == conduit->end) {
            conduit->head = PyBytes_FromStringAndSize(data, result);
            failed = conduit->head == NULL ? -1 : 0;
        }
        else {
            if (conduit->head != NULL) {
                failed = put_unread(conduit, PyBytes_AS_STRING(conduit->head),
                                    (size_t)PyBytes_GET_SIZE(conduit->head));
                Py_CLEAR(conduit->head);
            }
            if (!failed) {
                failed = put_unread(conduit, data, (size_t)result);
            }
        }
        if (!self->incremental || !(flags & CQE_BUF_MORE)) {
            give_back(self, number);
        }
        if (failed) {
            return -1;
        }
        conduit->bulk = result >= BULK;
        if (conduit->armed && !conduit->cancelling &&
            (conduit->bulk || unread(conduit) >= MAX_UNREAD)) {
            conduit->cancelling = 1;
            if (cancel(conduit, RECEIVED) < 0) {
                return -1;
            }
        }
    }
    else if (result == 0) {
        conduit->ended = 1;
    }
    else if (result != -ENOBUFS && result != -ECANCELED && result != -EINTR && result != -EAGAIN) {
        conduit->ended = 1;
        conduit->error = -result;
    }
    if (conduit->reader == NULL) {
        return 0;
    }
    if (!unread(conduit) && !conduit->ended && !conduit->unusual) {
        return arm(conduit);
    }
    return go_on(kernel, &conduit->reader, direct);
}

/* The system tells of a reset once. A send that was told of it may be complete, and not be taken
   yet: what is received from then on looks like a good end. */
static void
look_for_failed_send(Conduit *self)
{
    Ring *ring = self->ring;
    unsigned end = __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE);
    for (unsigned at = *ring->cq_head; self->sending != NULL && at != end; at++) {
        const struct io_uring_cqe *done = &ring->cqes[at & ring->cq_mask];
        if (done->user_data == ((unsigned long)self | SENT) && done->res < 0 &&
            done->res != -EAGAIN) {
            self->send_error = -done->res;
        }
    }
}

/* Of a lot there is more, or nothing more comes: `result` is of the poll. */
static int
readable(Conduit *self, int result, PyObject *kernel, int direct)
{
    self->armed = self->polled = 0;
    if (self->reader == NULL) {
        return 0; /* it stays where it is */
    }
    if (result < 0 && result != -ECANCELED) {
        self->ended = 1;
        self->error = -result;
    }
    if (result > 0 && !self->unusual && !self->ended) {
        Py_ssize_t most = self->wanted > 0 && self->wanted < MAX_BULK ? self->wanted : MAX_BULK;
        PyObject *data = PyBytes_FromStringAndSize(NULL, most);
        if (data == NULL) {
            return -1;
        }
        ssize_t size;
        int code;
        Py_BEGIN_ALLOW_THREADS
        size = recv(self->fd, PyBytes_AS_STRING(data), (size_t)most, MSG_DONTWAIT);
        code = errno;
        Py_END_ALLOW_THREADS
        if (size > 0 && !self->unusual /* it may have been aborted meanwhile */) {
            self->bulk = size >= BULK;
            if (size < most && _PyBytes_Resize(&data, size) < 0) {
                return -1;
            }
            self->head = data;
        }
        else {
            Py_DECREF(data);
            if (size == 0) {
                self->ended = 1;
                look_for_failed_send(self);
            }
            else if (size < 0 && code != EAGAIN && code != EINTR) {
                self->ended = 1;
                self->error = code;
            }
        }
    }
    if (self->head == NULL && !unread(self) && !self->ended && !self->unusual) {
        return arm(self);
    }
    return go_on(kernel, &self->reader, direct);
}

static int
sent(Conduit *self, int result, PyObject *kernel, int direct)
{
    if (self->sending == NULL) {
        return 0;
    }
    if (result == -EAGAIN && self->at < self->view.len) {
        return send_when_writable(self);
    }
    if (result < 0) {
        self->send_error = -result;
        end_sending(self);
    }
    else {
        self->at += result; /* past its end, if it was cancelled */
        if (self->at < self->view.len) {
            return send_when_writable(self); /* there was room for a part of it */
        }
        PyBuffer_Release(&self->view);
        Py_CLEAR(self->sending);
        if (self->pending_size) {
            PyObject *data = PyBytes_FromStringAndSize(self->pending, (Py_ssize_t)self->pending_size);
            int failed = data == NULL || begin_sending(self, data) < 0;
            Py_XDECREF(data);
            self->pending_size = 0;
            if (self->pending_room > 4096) {
                PyMem_Free(self->pending);
                self->pending = NULL;
                self->pending_room = 0;
            }
            if (failed) {
                return -1;
            }
        }
    }
    close_lingering(self);
    if (self->sending != NULL && !self->send_error) {
        return 0;
    }
    return go_on(kernel, &self->sender, direct);
}

static int
polled(Ring *self, unsigned long long known_by, int result, PyObject *kernel, PyObject *events)
{
    int fd = (int)((known_by >> 3) & 0x1fffffff);
    unsigned generation = (unsigned)(known_by >> 32);
    if (fd >= self->watched_size || self->watched[fd].generation != generation) {
        return 0; /* of an interest that was given up */
    }
    Watched *watched = &self->watched[fd];
    watched->armed = 0;
    if (!watched->again) {
        if (self->again_count == self->again_size) {
            int size = self->again_size ? 2 * self->again_size : 64;
            int *larger = PyMem_Realloc(self->again, (size_t)size * sizeof *larger);
            if (larger == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            self->again = larger;
            self->again_size = size;
        }
        watched->again = 1;
        self->again[self->again_count++] = fd;
    }
    if (!watched->interest || result == -ECANCELED) {
        return 0;
    }
    unsigned mask = result < 0 ? POLLERR : (unsigned)result;
    int failed = -1;
    if (events != NULL) {
        PyObject *event = Py_BuildValue("(iI)", fd, mask);
        if (event != NULL) {
            failed = PyList_Append(events, event);
            Py_DECREF(event);
        }
        return failed;
    }
    PyObject *readers = readers_of(kernel);
    if (readers != NULL) {
        failed = process_event(kernel, readers, fd, mask);
        Py_DECREF(readers);
    }
    return failed;
}

/* Take what is complete by now, and not what becomes so meanwhile. With `events`, tasks are woken,
   and what was polled is put there; without, they are resumed at once. */
static int
take_completions(Ring *self, PyObject *kernel, PyObject *events)
{
    unsigned end = __atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE);
    int failed = 0;
    /* (A task may close the ring, or take completions itself.) */
    while (!failed && self->fd >= 0 && (int)(end - *self->cq_head) > 0) {
        struct io_uring_cqe done;
        take_completion(self, &done);
        int kind = KIND(done.user_data);
        Conduit *conduit = (Conduit *)(unsigned long)(done.user_data & ~7ULL);
        if (kind == POLLED) {
            failed = polled(self, done.user_data, done.res, kernel, events);
        }
        else if (kind == READABLE) {
            failed = readable(conduit, done.res, kernel, events == NULL);
            Py_DECREF(conduit);
        }
        else if (kind == WRITABLE && done.res >= 0 && conduit->at < conduit->view.len) {
            failed = send_on(conduit);
            Py_DECREF(conduit);
        }
        else if (kind != NO_MATTER) {
            failed = kind == RECEIVED
                         ? received(self, conduit, done.res, done.flags, kernel, events == NULL)
                         : sent(conduit, kind == WRITABLE && done.res > 0 ? 0 : done.res, kernel,
                                events == NULL);
            if (!(done.flags & IORING_CQE_F_MORE)) {
                Py_DECREF(conduit);
            }
        }
    }
    return failed;
}

static int
let_ready_go_on(Ring *self, PyObject *kernel, int direct)
{
    Conduit *ready = self->ready;
    self->ready = NULL;
    int failed = 0;
    while (ready != NULL) {
        Conduit *conduit = ready;
        ready = conduit->next;
        conduit->next = NULL;
        conduit->is_ready = 0;
        if (!failed) {
            failed = go_on(kernel, &conduit->reader, direct);
        }
        Py_DECREF(conduit);
    }
    return failed;
}

static int
poll_for(Ring *self, int fd)
{
    Watched *watched = &self->watched[fd];
    watched->generation++;
    struct io_uring_sqe *operation =
        ask(self, IORING_OP_POLL_ADD, fd,
            (unsigned long long)watched->generation << 32 | (unsigned)fd << 3 | POLLED);
    if (operation == NULL) {
        return -1;
    }
    operation->poll32_events = watched->interest;
    watched->armed = 1;
    return 0;
}

static int
poll_again(Ring *self)
{
    for (int i = 0; i < self->again_count; i++) {
        Watched *watched = &self->watched[self->again[i]];
        watched->again = 0;
        if (watched->interest && !watched->armed && poll_for(self, self->again[i]) < 0) {
            return -1;
        }
    }
    self->again_count = 0;
    return 0;
}

/* Hand over, sleep, and come back with something complete, or when the time is up. */
static int
sleep_on(Ring *self, PyObject *kernel, double seconds)
{
    if (set_up(self) < 0 || poll_again(self) < 0) {
        return -1;
    }
    int sleeps = seconds > 0 && self->ready == NULL && !complete(self);
    int result, code;
    if (!sleeps) {
        result = enter(self, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        code = errno;
    }
    else {
        if (kernel != NULL) {
            set_asleep(kernel, Py_True);
        }
        Py_BEGIN_ALLOW_THREADS
        result = enter_and_wait(self, seconds);
        code = errno;
        Py_END_ALLOW_THREADS
        if (kernel != NULL) {
            set_asleep(kernel, Py_False);
            if (wake_watchdog(kernel) < 0) {
                return -1;
            }
        }
    }
    if (result < 0 && code != ETIME && code != EBUSY && code != EAGAIN) {
        if (code != EINTR) {
            errno = code;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        return PyErr_CheckSignals();
    }
    return 0;
}

#endif
