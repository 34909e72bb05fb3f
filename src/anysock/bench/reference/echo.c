/* The reference echo server: epoll, level-triggered, one thread, non-blocking sockets.
 *
 *     echo PORT [SOCKET_BUFFER]      (port 0 takes a free one; the port is printed)
 *
 * What can't be sent at once is kept, and nothing more is received until it is gone, so that its
 * memory is bounded as a fair server's must be.
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
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024, EVENTS = 512 };

struct client {
    int fd;
    char *pending; /* what is left to send, or NULL */
    size_t begin, end;
};

static int poller;
static char chunk[CHUNK];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct client *client, unsigned events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(poller, how, client->fd, &event) < 0) fail("epoll_ctl");
}

static void leave(struct client *client) {
    close(client->fd);
    free(client->pending);
    free(client);
}

/* Send what is pending. Returns 0 when the client is gone. */
static int flush(struct client *client) {
    while (client->begin < client->end) {
        ssize_t sent = send(client->fd, client->pending + client->begin,
                            client->end - client->begin, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        client->begin += (size_t)sent;
    }
    free(client->pending);
    client->pending = NULL;
    watch(client, EPOLLIN, EPOLL_CTL_MOD);
    return 1;
}

static int echo(struct client *client) {
    ssize_t size = recv(client->fd, chunk, sizeof chunk, 0);
    if (size <= 0) return size < 0 && errno == EAGAIN;
    ssize_t sent = send(client->fd, chunk, (size_t)size, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN) return 0;
        sent = 0;
    }
    if (sent < size) {
        client->begin = 0;
        client->end = (size_t)(size - sent);
        client->pending = malloc(client->end);
        if (!client->pending) fail("malloc");
        memcpy(client->pending, chunk + sent, client->end);
        watch(client, EPOLLOUT, EPOLL_CTL_MOD);
    }
    return 1;
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    struct epoll_event events[EVENTS];

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

    if ((poller = epoll_create1(0)) < 0) fail("epoll_create1");
    struct client self = {.fd = listener};
    watch(&self, EPOLLIN, EPOLL_CTL_ADD);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == &self) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    struct client *fresh = calloc(1, sizeof *fresh);
                    if (!fresh) fail("calloc");
                    fresh->fd = fd;
                    watch(fresh, EPOLLIN, EPOLL_CTL_ADD);
                }
            } else if (!(client->pending ? flush(client) : echo(client))) {
                leave(client);
            }
        }
    }
}
