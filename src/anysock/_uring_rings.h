/* The engine `uring`: the system calls, and the memory that is shared with the kernel (io_uring(7)). */

#ifndef ANYSOCK_URING_RINGS_H
#define ANYSOCK_URING_RINGS_H

#include "_receiving.h"
#include "_recording.h"

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
/* A receive that brings so much is one of many: then it is asked for word that something is there,
   which is received straight into bytes of their own, by recv(2). So it is copied once, and is in
   the processor's cache when it is sent on; and no memory waits for it. */
#define BULK 16384
#define MAX_BULK 262144

/* What is in flight without being waited for; and what is kept to follow it. */
#define MAX_IN_FLIGHT 262144
#define MAX_QUEUED 65536

/* Kinds of operations: the lowest bits of what a completion is known by. */
enum { POLLED = 1, RECEIVED = 2, SENT = 3, NO_MATTER = 4, WRITABLE = 5, READABLE = 6 };
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
    char polled; /* it is armed with a poll */
    int error;
    Py_ssize_t wanted; /* bytes, by who waits */
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
    Py_ssize_t conduit, readable;
    Number write_fd, most, budget, received, sent;
} stream;

static PyObject *str_send_more, *str_wake;

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

/* The same, until something is complete, or so many seconds have passed: ETIME. */
static int
enter_and_wait(Ring *self, double seconds)
{
    struct __kernel_timespec time = {(long long)seconds,
                                     (long long)((seconds - (long long)seconds) * 1e9)};
    struct io_uring_getevents_arg argument = {0};
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = (unsigned long)&time;
    return enter(self, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                 sizeof argument);
}

/* How many operations are complete whose completions were not taken yet. */
static int
complete(Ring *self)
{
    return (int)(__atomic_load_n(self->cq_tail, __ATOMIC_ACQUIRE) - *self->cq_head);
}

/* Take the next completion. An operation that goes on is still in flight. */
static void
take_completion(Ring *self, struct io_uring_cqe *done)
{
    *done = self->cqes[*self->cq_head & self->cq_mask];
    __atomic_store_n(self->cq_head, *self->cq_head + 1, __ATOMIC_RELEASE);
    if (!(done->flags & IORING_CQE_F_MORE)) {
        self->in_flight--;
    }
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

#endif
