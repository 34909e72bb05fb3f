/* The rings of io_uring, and what is in flight on them: the compiled part of the engine `uring`.
 *
 * Three things are here:
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
 * becomes of the stream. What was received is copied out of the shared buffers when it is taken.
 */

#include "_receiving.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of later headers. */
#define SINGLE_ISSUER (1U << 12)   /* Linux 6.0 */
#define DEFER_TASKRUN (1U << 13)   /* Linux 6.1: what is complete comes in our own io_uring_enter */
#define RECV_MULTISHOT (1U << 1)   /* Linux 6.0 */
#define PBUF_RING_INC 2            /* Linux 6.12: buffers are used up bit by bit */
#define CQE_BUF_MORE (1U << 4)

#define ENTRIES 1024U
#define COMPLETIONS 8192U

/* Used up bit by bit, a few large buffers suit the small messages of many as well as bulk. */
#define LARGE_BUFFERS 8U
#define LARGE_SIZE 262144U
#define PLAIN_BUFFERS 64U
#define PLAIN_SIZE 16384U

/* What is received ahead of who receives, for one connection: then the receive is taken back. */
#define MAX_UNREAD 65536
/* A receive that brings so much is one of many: then each is asked for when it is wanted. One that
   stays would bring all that is there, piece after piece, before it could be taken back. */
#define BULK 16384

/* What is sent at once, without waiting for its completion. */
#define MAX_QUEUED 65536

/* Kinds of operations: the lowest bits of what a completion is known by. */
enum { POLLED = 1, RECEIVED = 2, SENT = 3, NO_MATTER = 4, WRITABLE = 5 };
#define KIND(user_data) ((int)((user_data) & 7))

typedef struct conduit Conduit;

typedef struct {
    unsigned interest, generation;
    char armed, again;
} Watched;

typedef struct {
    PyObject_HEAD
    int fd; /* -1: not set up yet, or closed */
    int closed;
    void *rings, *operations;
    size_t rings_size;
    unsigned *sq_head, *sq_tail, *cq_head, *cq_tail;
    unsigned sq_mask, cq_mask, tail, unsubmitted;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    /* Buffers that all receives share. */
    struct io_uring_buf_ring *buffers;
    char *memory;
    unsigned buffer_count, buffer_size, used[LARGE_BUFFERS];
    unsigned short buffer_tail;
    int incremental;
    /* Descriptors that are polled, by number; and those that are to be polled again. */
    Watched *watched;
    int watched_size;
    int *again, again_count, again_size;
    /* Conduits whose reader is to go on in the next turn; each with a reference. */
    Conduit *ready;
    unsigned long in_flight, calls;
} Ring;

struct conduit {
    PyObject_HEAD
    Ring *ring;
    int fd;
    /* Receiving. */
    char armed, cancelling, ended, unusual, is_ready, bulk;
    int error;
    PyObject *head;       /* bytes that came while the reader waited */
    char *unread;         /* what came before anybody wanted it */
    size_t begin, end, room;
    PyObject *reader, *sender; /* tasks that wait */
    /* Sending. */
    PyObject *sending; /* what is in flight; NULL: nothing */
    Py_buffer view;
    Py_ssize_t at;
    char *pending; /* what follows it */
    size_t pending_size, pending_room;
    int full; /* it waits for room */
    int send_error;
    int lingers; /* a descriptor to be closed when all is sent; -1: none */
    Conduit *next;
};

static PyTypeObject Ring_Type, Conduit_Type;

static struct {
    PyObject *finished;
    long not_yet;
    Py_ssize_t conduit, write_fd, readable, most, budget, received, sent;
} stream;

static PyObject *str_explain, *str_received_nothing, *str_recv_more, *str_send_more, *str_may_go_on,
    *str_readers, *str_process_events, *str_wake, *zero;

/* -- system calls ------------------------------------------------------------------------------ */

static int
enter(Ring *self, unsigned wait, unsigned flags, void *argument, size_t size)
{
    self->calls++;
    int result = (int)syscall(__NR_io_uring_enter, self->fd, self->unsubmitted, wait, flags,
                              argument, size);
    if (result > 0) {
        self->unsubmitted -= (unsigned)result;
    }
    return result;
}

static int
set_up_buffers(Ring *self)
{
    struct io_uring_buf_reg registered;
    for (int incremental = 1; incremental >= 0; incremental--) {
        self->incremental = incremental;
        self->buffer_count = incremental ? LARGE_BUFFERS : PLAIN_BUFFERS;
        self->buffer_size = incremental ? LARGE_SIZE : PLAIN_SIZE;
        size_t size = self->buffer_count * sizeof(struct io_uring_buf);
        if (self->buffers == NULL) {
            self->buffers = mmap(NULL, PLAIN_BUFFERS * sizeof(struct io_uring_buf),
                                 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (self->buffers == MAP_FAILED) {
                self->buffers = NULL;
                return -1;
            }
        }
        memset(self->buffers, 0, size);
        memset(&registered, 0, sizeof registered);
        registered.ring_addr = (unsigned long)self->buffers;
        registered.ring_entries = self->buffer_count;
        if (incremental) {
            *(unsigned short *)((char *)&registered + 14) = PBUF_RING_INC; /* flags */
        }
        if (syscall(__NR_io_uring_register, self->fd, IORING_REGISTER_PBUF_RING, &registered, 1) == 0) {
            break;
        }
        if (!incremental || errno != EINVAL) {
            return -1;
        }
    }
    self->memory = mmap(NULL, (size_t)self->buffer_count * self->buffer_size,
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (self->memory == MAP_FAILED) {
        self->memory = NULL;
        return -1;
    }
    return 0;
}

static void
give_back(Ring *self, unsigned number)
{
    struct io_uring_buf *buffer =
        &self->buffers->bufs[self->buffer_tail & (self->buffer_count - 1)];
    buffer->addr = (unsigned long)(self->memory + (size_t)number * self->buffer_size);
    buffer->len = self->buffer_size;
    buffer->bid = (unsigned short)number;
    if (self->incremental) {
        self->used[number] = 0;
    }
    __atomic_store_n(&self->buffers->tail, ++self->buffer_tail, __ATOMIC_RELEASE);
}

static void
unmap(Ring *self)
{
    if (self->fd >= 0) {
        close(self->fd);
        self->fd = -1;
    }
    if (self->rings != NULL) {
        munmap(self->rings, self->rings_size);
        self->rings = NULL;
    }
    if (self->operations != NULL) {
        munmap(self->operations, ENTRIES * sizeof(struct io_uring_sqe));
        self->operations = NULL;
    }
    if (self->buffers != NULL) {
        munmap(self->buffers, PLAIN_BUFFERS * sizeof(struct io_uring_buf));
        self->buffers = NULL;
    }
    if (self->memory != NULL) {
        munmap(self->memory, (size_t)self->buffer_count * self->buffer_size);
        self->memory = NULL;
    }
}

/* By the thread that will use it, which is the one that may (SINGLE_ISSUER). */
static int
set_up(Ring *self)
{
    if (self->fd >= 0) {
        return 0;
    }
    if (self->closed) {
        PyErr_SetString(PyExc_ValueError, "the ring is closed");
        return -1;
    }
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = SINGLE_ISSUER | DEFER_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
    params.cq_entries = COMPLETIONS;
    self->fd = (int)syscall(__NR_io_uring_setup, ENTRIES, &params);
    if (self->fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    size_t operations = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    self->rings_size = operations > completions ? operations : completions;
    self->rings = mmap(NULL, self->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                       self->fd, IORING_OFF_SQ_RING);
    if (self->rings == MAP_FAILED) {
        self->rings = NULL;
        goto failed;
    }
    self->operations = mmap(NULL, ENTRIES * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_POPULATE, self->fd, IORING_OFF_SQES);
    if (self->operations == MAP_FAILED) {
        self->operations = NULL;
        goto failed;
    }
    char *rings = self->rings;
    self->sq_head = (unsigned *)(rings + params.sq_off.head);
    self->sq_tail = (unsigned *)(rings + params.sq_off.tail);
    self->sq_mask = *(unsigned *)(rings + params.sq_off.ring_mask);
    self->cq_head = (unsigned *)(rings + params.cq_off.head);
    self->cq_tail = (unsigned *)(rings + params.cq_off.tail);
    self->cq_mask = *(unsigned *)(rings + params.cq_off.ring_mask);
    self->sqes = self->operations;
    self->cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
    unsigned *order = (unsigned *)(rings + params.sq_off.array);
    for (unsigned i = 0; i < params.sq_entries; i++) {
        order[i] = i;
    }
    self->tail = *self->sq_tail;
    if (set_up_buffers(self) < 0) {
        goto failed;
    }
    for (unsigned i = 0; i < self->buffer_count; i++) {
        give_back(self, i);
    }
    return 0;
failed:
    PyErr_SetFromErrno(PyExc_OSError);
    unmap(self);
    return -1;
}

/* Room for one operation more; NULL: an exception is set. */
static struct io_uring_sqe *
ask(Ring *self, int opcode, int fd, unsigned long long known_by)
{
    if (set_up(self) < 0) {
        return NULL;
    }
    while (self->tail - __atomic_load_n(self->sq_head, __ATOMIC_ACQUIRE) > self->sq_mask) {
        if (enter(self, 0, 0, NULL, 0) < 0 && errno != EINTR) {
            PyErr_SetFromErrno(PyExc_OSError);
            return NULL;
        }
    }
    struct io_uring_sqe *operation = &self->sqes[self->tail & self->sq_mask];
    memset(operation, 0, sizeof *operation);
    operation->opcode = (unsigned char)opcode;
    operation->fd = fd;
    operation->user_data = known_by;
    self->tail++;
    __atomic_store_n(self->sq_tail, self->tail, __ATOMIC_RELEASE);
    self->unsubmitted++;
    self->in_flight++;
    return operation;
}

/* Hand over what was asked for, now: who closes a descriptor wants nothing to hold on to it. */
static int
hand_over(Ring *self)
{
    if (self->fd < 0) {
        return 0;
    }
    do {
        if (enter(self, 0, IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
            if (errno == EBUSY || errno == EAGAIN) {
                return 0; /* completions are to be taken first, which the next turn does */
            }
            if (errno != EINTR) {
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
        }
    } while (self->unsubmitted);
    return 0;
}

/* -- conduits: receiving ------------------------------------------------------------------------- */

static int
arm(Conduit *self)
{
    if (self->armed || self->ended || self->fd < 0) {
        return 0;
    }
    struct io_uring_sqe *operation =
        ask(self->ring, IORING_OP_RECV, self->fd, (unsigned long)self | RECEIVED);
    if (operation == NULL) {
        return -1;
    }
    operation->flags = IOSQE_BUFFER_SELECT;
    operation->ioprio = self->bulk ? 0 : RECV_MULTISHOT;
    operation->buf_group = 0;
    Py_INCREF(self);
    self->armed = 1;
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
    operation->addr = (unsigned long)self | (unsigned)(kind == SENT && self->full ? WRITABLE : kind);
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
            return send_on(self); /* there was room for a part of it */
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
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL) {
        return -1;
    }
    int failed = -1;
    if (events != NULL) {
        PyObject *event = Py_BuildValue("(OI)", number, mask);
        if (event != NULL) {
            failed = PyList_Append(events, event);
            Py_DECREF(event);
        }
    }
    else {
        PyObject *readers = mask == POLLIN ? PyObject_GetAttr(kernel, str_readers) : NULL;
        PyObject *running = readers == NULL ? NULL : PyDict_GetItemWithError(readers, number);
        Py_XINCREF(running);
        Py_XDECREF(readers);
        if (running != NULL) {
            failed = resume(kernel, running);
            Py_DECREF(running);
        }
        else if (!PyErr_Occurred()) {
            PyObject *event = Py_BuildValue("[(OI)]", number, mask);
            PyObject *done = event == NULL
                                 ? NULL
                                 : PyObject_CallMethodOneArg(kernel, str_process_events, event);
            Py_XDECREF(event);
            Py_XDECREF(done);
            failed = done == NULL ? -1 : 0;
        }
    }
    Py_DECREF(number);
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
        struct io_uring_cqe done = self->cqes[*self->cq_head & self->cq_mask];
        __atomic_store_n(self->cq_head, *self->cq_head + 1, __ATOMIC_RELEASE);
        int kind = KIND(done.user_data);
        Conduit *conduit = (Conduit *)(unsigned long)(done.user_data & ~7ULL);
        if (!(done.flags & IORING_CQE_F_MORE)) {
            self->in_flight--;
        }
        if (kind == POLLED) {
            failed = polled(self, done.user_data, done.res, kernel, events);
        }
        else if (kind == WRITABLE && done.res >= 0 && conduit->at < conduit->view.len) {
            failed = send_on(conduit);
            Py_DECREF(conduit);
        }
        else if (kind != NO_MATTER) {
            failed = kind == RECEIVED
                         ? received(self, conduit, done.res, done.flags, kernel, events == NULL)
                         : sent(conduit, done.res < 0 ? done.res : kind == SENT ? done.res : 0,
                                kernel, events == NULL);
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
    int sleeps = seconds > 0 && self->ready == NULL &&
                 __atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE) == *self->cq_head;
    int result, code;
    if (!sleeps) {
        result = enter(self, 0, IORING_ENTER_GETEVENTS, NULL, 0);
        code = errno;
    }
    else {
        struct __kernel_timespec time = {(long long)seconds,
                                         (long long)((seconds - (long long)seconds) * 1e9)};
        struct io_uring_getevents_arg argument = {0};
        argument.sigmask_sz = _NSIG / 8;
        argument.ts = (unsigned long)&time;
        if (kernel != NULL && PyObject_SetAttr(kernel, str_asleep, Py_True) < 0) {
            return -1;
        }
        Py_BEGIN_ALLOW_THREADS
        result = enter(self, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                       sizeof argument);
        code = errno;
        Py_END_ALLOW_THREADS
        if (kernel != NULL &&
            (PyObject_SetAttr(kernel, str_asleep, Py_False) < 0 || wake_watchdog(kernel) < 0)) {
            return -1;
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

static PyObject *
ring_turn(Ring *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "turn() takes a kernel, nothing and seconds");
        return NULL;
    }
    double seconds = PyFloat_AsDouble(args[2]);
    if (PyErr_Occurred() || sleep_on(self, args[0], seconds) < 0 ||
        take_completions(self, args[0], NULL) < 0 || let_ready_go_on(self, args[0], 1) < 0 ||
        PyObject_SetAttr(args[0], str_current, Py_None) < 0) {
        return NULL;
    }
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
    struct __kernel_timespec second = {1, 0};
    struct io_uring_getevents_arg argument = {0};
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = (unsigned long)&second;
    while (self->in_flight) {
        if (enter(self, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                  sizeof argument) < 0 &&
            errno != EINTR && errno != EBUSY && errno != EAGAIN) {
            break; /* ETIME: what can't be cancelled is kept, and never freed */
        }
        while (*self->cq_head != __atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE)) {
            struct io_uring_cqe done = self->cqes[*self->cq_head & self->cq_mask];
            __atomic_store_n(self->cq_head, *self->cq_head + 1, __ATOMIC_RELEASE);
            int kind = KIND(done.user_data);
            if (done.flags & IORING_CQE_F_MORE) {
                continue;
            }
            self->in_flight--;
            if (kind != POLLED && kind != NO_MATTER) {
                Conduit *conduit = (Conduit *)(unsigned long)(done.user_data & ~7ULL);
                if (kind == RECEIVED) {
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
    {"turn", (PyCFunction)(void (*)(void))ring_turn, METH_FASTCALL,
     "Sleep, and resume whose descriptors are ready and whose operations are complete."},
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
conduit_arm(Conduit *self, PyObject *Py_UNUSED(ignored))
{
    if (arm(self) < 0) {
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
    {"arm", (PyCFunction)conduit_arm, METH_NOARGS, "Ask for what comes, unless it is asked for."},
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

static void
raise_explained(PyObject *self, int code)
{
    errno = code;
    PyErr_SetFromErrno(PyExc_OSError);
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    PyErr_NormalizeException(&kind, &error, &trace);
    PyObject *explained = PyObject_CallMethodOneArg(self, str_explain, error);
    Py_XDECREF(kind);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    if (explained != NULL) {
        PyException_SetCause(explained, NULL);
        PyErr_SetObject((PyObject *)Py_TYPE(explained), explained);
        Py_DECREF(explained);
    }
}

static PySendResult
receiving_send(Receiving *self, PyObject *Py_UNUSED(value), PyObject **result)
{
    PyObject *owner = self->stream;
    *result = NULL;
    if (owner == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "this receive was awaited already");
        return PYGEN_ERROR;
    }
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
        if (data != NULL && add(owner, stream.received, PyBytes_GET_SIZE(data)) < 0) {
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
    Py_ssize_t given = count + (names == NULL ? 0 : PyTuple_GET_SIZE(names)), most;
    PyObject *max_bytes = given ? args[0] : Py_None;
    if (given > 1 || (names != NULL && PyTuple_GET_SIZE(names) &&
                      PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "max_bytes"))) {
        PyErr_SetString(PyExc_TypeError, "recv() takes max_bytes, and nothing else");
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
    most = max_bytes == Py_None ? 0 : PyNumber_AsSsize_t(max_bytes, PyExc_OverflowError);
    if (most < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "recv() takes a number of bytes from 0 up");
        }
        return NULL;
    }
    return new_receiving(self, most ? most : get_long(self, stream.most));
}

static PyObject *
send_all(PyObject *self, PyObject *data)
{
    Conduit *conduit = conduit_of(self);
    if (conduit == NULL) {
        return NULL;
    }
    if (!PyBytes_CheckExact(data) || conduit->sending != NULL || conduit->send_error ||
        conduit->fd < 0 || PyBytes_GET_SIZE(data) > MAX_QUEUED || !PyBytes_GET_SIZE(data) ||
        get_long(self, stream.write_fd) < 0) {
        return PyObject_CallMethodOneArg(self, str_send_more, data);
    }
    if (begin_sending(conduit, data) < 0 || add(self, stream.sent, PyBytes_GET_SIZE(data)) < 0) {
        return NULL;
    }
    long budget = get_long(self, stream.budget) - 1;
    if (put(self, stream.budget, PyLong_FromLong(budget)) < 0) {
        return NULL;
    }
    if (!budget) {
        PyObject *may = PyObject_CallMethodOneArg(self, str_may_go_on, zero);
        if (may == NULL) {
            return NULL;
        }
        int no = may == Py_False;
        Py_DECREF(may);
        if (no && put(self, stream.write_fd, PyLong_FromLong(stream.not_yet)) < 0) {
            return NULL;
        }
    }
    return Py_NewRef(stream.finished);
}

/* -- the module ---------------------------------------------------------------------------------------- */

static PyMethodDef recv_method = {"recv", (PyCFunction)(void (*)(void))recv_,
                                  METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef send_all_method = {"send_all", send_all, METH_O, NULL};

/* bind(stream class, task class, FINISHED, not yet): `recv` and `send_all`, methods of that class. */
static PyObject *
bind_stream(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *streams, *tasks;
    PyObject *finished;
    long not_yet;
    if (!PyArg_ParseTuple(args, "O!O!Ol", &PyType_Type, &streams, &PyType_Type, &tasks, &finished,
                          &not_yet)) {
        return NULL;
    }
    const Slot slots[] = {
        {&stream.conduit, streams, "conduit"},
        {&stream.write_fd, streams, "_write_fd"},
        {&stream.readable, streams, "_readable"},
        {&stream.most, streams, "_max_recv_size"},
        {&stream.budget, streams, "_budget"},
        {&stream.received, streams, "bytes_received"},
        {&stream.sent, streams, "bytes_sent"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0 || step_bind(tasks) < 0) {
        return NULL;
    }
    stream.not_yet = not_yet;
    Py_XSETREF(stream.finished, Py_NewRef(finished));
    return Py_BuildValue("(NN)", PyDescr_NewMethod(streams, &recv_method),
                         PyDescr_NewMethod(streams, &send_all_method));
}

static PyMethodDef methods[] = {
    {"bind", bind_stream, METH_VARARGS, NULL},
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
    static const Name names[] = {
        {&str_explain, "_explain"},       {&str_received_nothing, "_received_nothing"},
        {&str_recv_more, "_recv_more"},   {&str_send_more, "_send_more"},
        {&str_may_go_on, "_may_go_on"},   {&str_readers, "readers"},
        {&str_wake, "wake"},              {&str_process_events, "process_events"},
    };
    zero = PyLong_FromLong(0);
    if (zero == NULL || intern(names, sizeof names / sizeof *names) < 0 || step_init() < 0 ||
        PyType_Ready(&Ring_Type) < 0 || PyType_Ready(&Conduit_Type) < 0 ||
        PyType_Ready(&Receiving_Type) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL || PyModule_AddType(module, &Ring_Type) < 0 ||
        PyModule_AddType(module, &Conduit_Type) < 0) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
