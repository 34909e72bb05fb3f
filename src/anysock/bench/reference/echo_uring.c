/* The reference echo server on io_uring: no library, one thread, one system call a turn.
 *
 *     echo_uring PORT [SOCKET_BUFFER]     (port 0 takes a free one; the port is printed)
 *     echo_uring probe                    (says in one line why it can't run here; exit code 1)
 *
 * One accept and one receive a client stay armed (multishot). What arrives is put into a buffer of
 * a ring that all clients share, and is sent from there; the buffer goes back to the ring when the
 * kernel has completed the send, and not before. A client whose echoes it does not take has at most
 * HELD of them: then its receive is cancelled, and armed again when they are gone, so that memory is
 * bounded as a fair server's must be. (But the ring of buffers is one for all: BUFFERS / HELD clients
 * that take nothing hold all of it, and the others wait.)
 *
 * Needs Linux 6.1 (DEFER_TASKRUN: completions are made in our own io_uring_enter, by our thread
 * alone). io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 1024, BUFFERS = 1024, SIZE = 64 * 1024, HELD = 8, GROUP = 1 };
enum { ACCEPT, RECEIVE, SEND, CANCEL }; /* in the low bits of what a completion is known by */

struct client {
    int fd;
    int first, last, held; /* the buffers to send, in order: numbers, linked by `buffers` */
    char receiving, cancelling, sending, ended, broken, starving;
    struct client *next; /* of those that starve */
};

/* What is in a buffer: bytes from `begin` to `end`, and the buffer to send after it. */
static struct {
    unsigned begin, end;
    int next;
} buffers[BUFFERS];

static int ring;
static unsigned *sq_head, *sq_tail, sq_mask, *cq_head, *cq_tail, cq_mask, to_submit;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *pool;
static unsigned short pool_tail;
static char *memory;
static int listener, recycled;
static struct client *starving;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void enter(unsigned wait) {
    for (;;) {
        long done = syscall(SYS_io_uring_enter, ring, to_submit, wait,
                            wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
        if (done >= 0) {
            to_submit -= (unsigned)done;
            if (wait || !to_submit) return;
        } else if (errno == EAGAIN || errno == EBUSY) {
            wait = 1; /* it is short of memory, or of room for completions: let some come first */
        } else if (errno != EINTR) {
            fail("io_uring_enter");
        }
    }
}

/* A new operation; the kernel takes it at the next `enter`. */
static struct io_uring_sqe *operation(int code, int fd, struct client *client, unsigned kind) {
    unsigned tail = *sq_tail;
    while (tail - __atomic_load_n(sq_head, __ATOMIC_ACQUIRE) > sq_mask) enter(0);
    struct io_uring_sqe *sqe = &sqes[tail & sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = (unsigned char)code;
    sqe->fd = fd;
    sqe->user_data = (uintptr_t)client | kind;
    __atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
    to_submit++;
    return sqe;
}

static void give_back(int number) {
    struct io_uring_buf *entry = &pool->bufs[pool_tail & (BUFFERS - 1)];
    entry->addr = (uintptr_t)(memory + (size_t)number * SIZE);
    entry->len = SIZE;
    entry->bid = (unsigned short)number;
    __atomic_store_n(&pool->tail, ++pool_tail, __ATOMIC_RELEASE);
    recycled = 1;
}

static void arm_accept(void) {
    operation(IORING_OP_ACCEPT, listener, NULL, ACCEPT)->ioprio = IORING_ACCEPT_MULTISHOT;
}

static void arm_receive(struct client *client) {
    struct io_uring_sqe *sqe = operation(IORING_OP_RECV, client->fd, client, RECEIVE);
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    client->receiving = 1;
}

static void send_first(struct client *client) {
    unsigned begin = buffers[client->first].begin;
    struct io_uring_sqe *sqe = operation(IORING_OP_SEND, client->fd, client, SEND);
    sqe->addr = (uintptr_t)(memory + (size_t)client->first * SIZE + begin);
    sqe->len = buffers[client->first].end - begin;
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    client->sending = 1;
}

/* What is to be done for a client next, once something has been completed for it. */
static void go_on(struct client *client) {
    if (client->broken)
        while (client->held && !client->sending) {
            give_back(client->first);
            client->first = buffers[client->first].next;
            client->held--;
        }
    if (client->held && !client->sending) send_first(client);
    if (client->ended || client->broken) {
        if (client->receiving || client->sending || client->starving) return;
        close(client->fd); /* only now: nothing of it is in flight */
        free(client);
    } else if (client->held >= HELD) {
        if (client->receiving && !client->cancelling) {
            operation(IORING_OP_ASYNC_CANCEL, -1, client, CANCEL)->addr =
                (uintptr_t)client | RECEIVE;
            client->cancelling = 1;
        }
    } else if (!client->receiving && !client->starving && client->held <= HELD / 2) {
        arm_receive(client);
    }
}

static void accepted(int result, unsigned flags) {
    if (!(flags & IORING_CQE_F_MORE)) arm_accept();
    if (result < 0) return;
    struct client *client = calloc(1, sizeof *client);
    if (!client) fail("calloc");
    client->fd = result;
    arm_receive(client);
}

static void received(struct client *client, int result, unsigned flags) {
    if (!(flags & IORING_CQE_F_MORE)) client->receiving = client->cancelling = 0;
    if (result > 0) { /* also of a receive that was to be cancelled: bytes have come all the same */
        int number = (int)(flags >> IORING_CQE_BUFFER_SHIFT);
        buffers[number].begin = 0;
        buffers[number].end = (unsigned)result;
        if (client->held++) buffers[client->last].next = number;
        else client->first = number;
        client->last = number;
    } else if (result == -ENOBUFS) {
        client->starving = 1;
        client->next = starving;
        starving = client;
    } else if (result != -ECANCELED) {
        client->ended = 1;
    }
    go_on(client);
}

static void sent(struct client *client, int result) {
    client->sending = 0;
    if (result < 0) {
        client->broken = 1;
        shutdown(client->fd, SHUT_RDWR); /* so that its receive is completed */
    } else if ((buffers[client->first].begin += (unsigned)result) == buffers[client->first].end) {
        give_back(client->first);
        client->first = buffers[client->first].next;
        client->held--;
    }
    go_on(client);
}

static void turn(void) {
    enter(1);
    unsigned head = *cq_head, tail = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        struct io_uring_cqe *cqe = &cqes[head & cq_mask];
        struct client *client = (struct client *)(uintptr_t)(cqe->user_data & ~3ull);
        switch (cqe->user_data & 3) {
        case ACCEPT: accepted(cqe->res, cqe->flags); break;
        case RECEIVE: received(client, cqe->res, cqe->flags); break;
        case SEND: sent(client, cqe->res); break;
        case CANCEL: break; /* what was cancelled has a completion of its own */
        }
    }
    __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
    struct client *client = recycled ? starving : NULL;
    if (client) starving = NULL;
    recycled = 0;
    while (client) {
        struct client *next = client->next;
        client->starving = 0;
        go_on(client);
        client = next;
    }
}

static void *mapped(size_t size, uint64_t offset) {
    int flags = ring < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED | MAP_POPULATE;
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, ring, (off_t)offset);
    if (found == MAP_FAILED) fail("mmap");
    return found;
}

static void set_up(void) {
    struct io_uring_params asked = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = 8 * ENTRIES,
    };
    struct io_uring_buf_reg group = {.ring_entries = BUFFERS, .bgid = GROUP};

    ring = -1;
    memory = mapped((size_t)BUFFERS * SIZE, 0);
    /* Buffers are used in turn: each is cold when its turn comes. Large pages make that cheaper. */
    madvise(memory, (size_t)BUFFERS * SIZE, MADV_HUGEPAGE);
    pool = mapped(BUFFERS * sizeof *pool->bufs, 0);
    ring = (int)syscall(SYS_io_uring_setup, ENTRIES, &asked);
    if (ring < 0) {
        printf("io_uring is not available: %s%s\n", strerror(errno),
               errno == EINVAL  ? " (it needs Linux 6.1)"
               : errno == EPERM ? " (/proc/sys/kernel/io_uring_disabled, or seccomp)"
                                : "");
        exit(1);
    }
    /* Both rings are one mapping (IORING_FEAT_SINGLE_MMAP: all kernels from 5.4 on). */
    size_t one_end = asked.sq_off.array + asked.sq_entries * sizeof(unsigned);
    size_t other_end = asked.cq_off.cqes + asked.cq_entries * sizeof *cqes;
    char *rings = mapped(one_end > other_end ? one_end : other_end, IORING_OFF_SQ_RING);
    sqes = mapped(asked.sq_entries * sizeof *sqes, IORING_OFF_SQES);
    sq_head = (unsigned *)(rings + asked.sq_off.head);
    sq_tail = (unsigned *)(rings + asked.sq_off.tail);
    sq_mask = asked.sq_entries - 1;
    cq_head = (unsigned *)(rings + asked.cq_off.head);
    cq_tail = (unsigned *)(rings + asked.cq_off.tail);
    cq_mask = asked.cq_entries - 1;
    cqes = (struct io_uring_cqe *)(rings + asked.cq_off.cqes);
    unsigned *order = (unsigned *)(rings + asked.sq_off.array);
    for (unsigned i = 0; i < asked.sq_entries; i++) order[i] = i;

    group.ring_addr = (uintptr_t)pool;
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &group, 1) < 0)
        fail("io_uring_register");
    for (int i = 0; i < BUFFERS; i++) {
        memory[(size_t)i * SIZE] = 0; /* its page is there before the first client is */
        give_back(i);
    }
}

int main(int argc, char **argv) {
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;

    set_up();
    if (argc > 1 && !strcmp(argv[1], "probe")) return 0;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)(argc > 1 ? atoi(argv[1]) : 0));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (argc > 2) {
        int buffer = atoi(argv[2]);
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    }
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    getsockname(listener, (struct sockaddr *)&address, &length);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);

    arm_accept();
    for (;;) turn();
}
