/* The load generator in C: a closed loop over many connections, every byte verified.
 *
 *     load PORT CONNECTIONS SIZE DEPTH WARMUP SECONDS FORM TICK    DEPTH messages in flight on each
 *     load PORT 1 SIZE 0 WARMUP SECONDS FORM TICK                  connect, echo once, close, again
 *
 * FORM is bytes, lines (a message ends with CRLF, and has no other) or frames (it begins with its
 * length, without these 4 bytes, in big endian). TICK is how often it tells what has come, in
 * seconds; 0: at the end only.
 *
 * It says what anysock/bench/generator/worker.py says, in lines of JSON: "ready", and when a byte
 * has come on standard input, "begin" (the warm-up is over), "tick" and "end", with latencies counted
 * by the upper half of a float, as in anysock/bench/generator/latencies.py. A connection is opened and
 * closed before anything else: the first that closes teaches a server's malloc to keep memory.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, EVENTS = 512, PATIENCE = 5 /* seconds without any answer */ };

struct client {
    int fd, writing;
    size_t to_send;        /* bytes that may be sent now */
    size_t sent, received; /* offsets into the message */
    double *times;         /* a ring: when each message on the way was sent */
    int oldest;
};

static int poller, port, depth;
static size_t size;
static char *message, *chunk;
static unsigned long messages, told;              /* of messages: those that a tick has told */
static unsigned long fresh[1 << 16], all[1 << 16]; /* latencies since the last tick, and before */
static double cpu_begun, begun, tick, due;         /* due: when the next tick is */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void count(double seconds) {
    union {
        float seconds;
        unsigned bits;
    } sample = {.seconds = (float)seconds};
    fresh[sample.bits >> 16]++;
    messages++;
}

/* Connected, and told to begin. */
static void ready(int connections) {
    char byte;
    printf("{\"ready\": %d, \"errors\": {}}\n", connections);
    fflush(stdout);
    if (read(0, &byte, 1) != 1) exit(0);
}

static void begin(void) {
    messages = told = 0;
    memset(fresh, 0, sizeof fresh);
    begun = now();
    due = begun + tick;
    cpu_begun = cpu_seconds();
    printf("{\"begin\": %.6f}\n", begun);
    fflush(stdout);
}

static void say_latencies(const unsigned long *buckets) {
    const char *comma = "";
    printf("\"echo\": {");
    for (unsigned i = 0; i < 1 << 16; i++)
        if (buckets[i]) {
            printf("%s\"%u\": %lu", comma, i, buckets[i]);
            comma = ", ";
        }
    puts("}}");
    fflush(stdout);
}

static void fold(void) {
    for (unsigned i = 0; i < 1 << 16; i++) all[i] += fresh[i];
    memset(fresh, 0, sizeof fresh);
}

static void say_tick(double time) {
    printf("{\"tick\": %lu, \"at\": %.6f, \"errors\": {}, \"sent\": 0, \"received\": 0, ",
           messages - told, time - begun);
    say_latencies(fresh);
    fold();
    told = messages;
    /* Counted from the begin, so that a tick ends with each interval, also after a late one. */
    due = begun + tick * (double)((long)((time - begun) / tick) + 1);
}

static void end(double time, unsigned long opened) {
    if (tick) say_tick(time);
    fold();
    printf("{\"end\": %.6f, \"cpu\": %.6f, \"messages\": %lu, \"opened\": %lu, "
           "\"errors\": {}, \"unanswered\": 0, ",
           time - begun, cpu_seconds() - cpu_begun, messages, opened);
    say_latencies(all);
    /* Stay until dismissed: with our connections, threads of the server may end, and the CPU time
     * that they used would no longer be told. */
    char byte;
    while (read(0, &byte, 1) > 0) continue;
}

static int dial(int reset) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct linger linger = {1, 0};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((unsigned short)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* A reset at the close leaves no TIME_WAIT behind, of which there would soon be too many. */
    if (reset) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    return fd;
}

static void verify(struct client *client, const char *data, size_t length) {
    double time = now();
    while (length) {
        size_t part = size - client->received;
        if (part > length) part = length;
        if (memcmp(data, message + client->received, part)) {
            fprintf(stderr, "load: the answer is not what was sent\n");
            exit(3);
        }
        client->received += part;
        data += part;
        length -= part;
        if (client->received == size) {
            client->received = 0;
            client->to_send += size;
            count(time - client->times[client->oldest]);
            client->times[client->oldest] = time;
            client->oldest = (client->oldest + 1) % depth;
        }
    }
}

static void push(struct client *client) {
    int stuck = 0;
    while (client->to_send) {
        size_t part = size - client->sent;
        if (part > client->to_send) part = client->to_send;
        /* Several small messages go in one packet, as a pipelining client sends them. */
        ssize_t sent;
        if (size <= 4096 && client->sent == 0 && client->to_send > size) {
            size_t whole = client->to_send / size;
            if (whole > CHUNK / size) whole = CHUNK / size;
            for (size_t i = 0; i < whole; i++) memcpy(chunk + i * size, message, size);
            sent = send(client->fd, chunk, whole * size, MSG_NOSIGNAL | MSG_DONTWAIT);
        } else {
            sent = send(client->fd, message + client->sent, part, MSG_NOSIGNAL | MSG_DONTWAIT);
        }
        if (sent < 0) {
            if (errno != EAGAIN) fail("send");
            stuck = 1;
            break;
        }
        client->to_send -= (size_t)sent;
        client->sent = (client->sent + (size_t)sent) % size;
    }
    if (stuck != client->writing) {
        struct epoll_event event = {.events = stuck ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                    .data.ptr = client};
        client->writing = stuck;
        if (epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event) < 0) fail("epoll_ctl");
    }
}

static void one_by_one(double warmup, double seconds) {
    double limit = now() + warmup, sent;
    struct client client = {.times = &sent};
    int measuring = 0;
    depth = 1;
    for (;;) {
        client.fd = dial(1);
        sent = now();
        if (send(client.fd, message, size, MSG_NOSIGNAL) < 0) fail("send");
        unsigned long before = messages;
        while (messages == before) {
            ssize_t length = recv(client.fd, chunk, CHUNK, 0);
            if (length <= 0) fail("recv");
            verify(&client, chunk, (size_t)length);
        }
        close(client.fd);
        double time = now();
        if (measuring && tick && time >= due) say_tick(time);
        if (time < limit) continue;
        if (measuring) {
            end(time, messages);
            return;
        }
        measuring = 1;
        begin();
        limit = begun + seconds;
    }
}

static void make_message(int lines, int frames) {
    uint32_t length = htonl((uint32_t)(size - 4));
    for (size_t i = 0; i < size; i++)
        message[i] = (char)(lines ? 33 + (i * 31) % 94 : i * 31 + i / 251);
    if (lines) memcpy(message + size - 2, "\r\n", 2);
    if (frames) memcpy(message, &length, 4);
}

/* A connection that is answered once: the shortest message that there is. */
static void teach(int lines, int frames) {
    const char *shortest = lines ? "\r\n" : "\0\0\0";
    size_t length = lines ? 2 : frames ? 4 : 1, received = 0;
    int first = dial(0);
    if (send(first, shortest, length, MSG_NOSIGNAL) != (ssize_t)length) fail("echo");
    while (received < length) {
        ssize_t part = recv(first, chunk, length - received, 0);
        if (part <= 0) fail("echo");
        received += (size_t)part;
    }
    close(first);
}

int main(int argc, char **argv) {
    if (argc != 9) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SIZE DEPTH WARMUP SECONDS FORM TICK\n");
        return 2;
    }
    int lines = !strcmp(argv[7], "lines"), frames = !strcmp(argv[7], "frames");
    port = atoi(argv[1]);
    int connections = atoi(argv[2]), measuring = 0;
    depth = atoi(argv[4]);
    size = (size_t)atol(argv[3]);
    double warmup = atof(argv[5]), seconds = atof(argv[6]);
    tick = atof(argv[8]);
    message = malloc(size);
    chunk = malloc(CHUNK);
    struct client *clients = calloc((size_t)connections, sizeof *clients);
    struct epoll_event events[EVENTS];
    if (!message || !chunk || !clients) fail("malloc");
    make_message(lines, frames);
    teach(lines, frames);

    if (depth == 0) {
        ready(1);
        one_by_one(warmup, seconds);
        return 0;
    }
    if ((poller = epoll_create1(0)) < 0) fail("epoll_create1");
    for (int i = 0; i < connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        clients[i].fd = dial(0);
        clients[i].times = malloc((size_t)depth * sizeof(double));
        if (!clients[i].times) fail("malloc");
        clients[i].to_send = size * (size_t)depth;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, clients[i].fd, &event) < 0) fail("epoll_ctl");
    }
    ready(connections);
    for (int i = 0; i < connections; i++) {
        for (int k = 0; k < depth; k++) clients[i].times[k] = now();
        push(&clients[i]);
    }
    double time = now(), answered = time, limit = time + warmup;
    for (;;) {
        double before = measuring && tick ? due : answered + PATIENCE;
        int wait = (int)((before - time) * 1e3) + 1;
        int events_ready = epoll_wait(poller, events, EVENTS, wait > 0 ? wait : 0);
        if (events_ready < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < events_ready; i++) {
            struct client *client = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                ssize_t length = recv(client->fd, chunk, CHUNK, MSG_DONTWAIT);
                if (length == 0 || (length < 0 && errno != EAGAIN)) fail("recv");
                if (length > 0) verify(client, chunk, (size_t)length);
            }
            push(client);
        }
        time = now();
        if (events_ready > 0) answered = time;
        if (time - answered >= PATIENCE) {
            fprintf(stderr, "load: no answer for %d s\n", PATIENCE);
            return 4;
        }
        if (measuring && tick && time >= due) say_tick(time);
        /* It ends with an answer: of what was on its way for long, the latency counts. */
        if (time < limit || events_ready <= 0) continue;
        if (measuring) {
            end(time, (unsigned long)connections);
            return 0;
        }
        measuring = 1;
        begin();
        limit = begun + seconds;
    }
}
