/* accept(2), and the socket that it gives: by one system call, where Python's `socket.accept` takes three
 * and makes an object of ten times the size.
 */

#ifndef ANYSOCK_ACCEPTING_H
#define ANYSOCK_ACCEPTING_H

#include "_step.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* A connected socket. It can be closed; whatever else it is asked for, a `socket.socket` does, which
   is made for that, and has the descriptor from then on. */
typedef struct {
    PyObject_HEAD
    PyObject *whole; /* NULL: it was asked for nothing else yet */
    int fd;
    struct in_addr host; /* of its peer */
    unsigned short port;
    char blocking;
} Accepted;

static PyTypeObject Accepted_Type;

/* (Interned: a type's cache of methods keeps each string that it was asked for by.) */
static PyObject *str_close, *str_detach, *str_fileno, *str_setblocking, *str_socket;

/* Who was accepted last, and from where: many come from one address. */
static PyObject *last_host;
static struct in_addr last_address;

/* A `socket.socket` for what it is asked for, if that is something that one has. */
static PyObject *
make_whole(Accepted *self, PyObject *asked)
{
    if (self->whole == NULL) {
        PyObject *module = PyImport_ImportModule("socket"), *class = NULL, *made = NULL;
        if (module != NULL && (class = PyObject_GetAttr(module, str_socket)) != NULL) {
            if (!PyObject_HasAttr(class, asked)) {
                PyErr_Format(PyExc_AttributeError, "a socket has no %R", asked);
            }
            else if (self->fd < 0) { /* it was closed, or given away */
                errno = EBADF;
                PyErr_SetFromErrno(PyExc_OSError);
            }
            else {
                PyObject *nothing = PyTuple_New(0);
                PyObject *names = Py_BuildValue("{si}", "fileno", self->fd);
                if (nothing != NULL && names != NULL) {
                    made = PyObject_Call(class, nothing, names);
                }
                Py_XDECREF(nothing);
                Py_XDECREF(names);
            }
        }
        Py_XDECREF(module);
        Py_XDECREF(class);
        if (made == NULL) {
            return NULL;
        }
        self->whole = made;
        self->fd = -1;
        PyObject *done = PyObject_CallMethodOneArg(made, str_setblocking,
                                                   self->blocking ? Py_True : Py_False);
        if (done == NULL) {
            return NULL;
        }
        Py_DECREF(done);
    }
    return self->whole;
}

static PyObject *
accepted_getattr(Accepted *self, PyObject *name)
{
    PyObject *found = PyObject_GenericGetAttr((PyObject *)self, name);
    if (found != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return found;
    }
    PyErr_Clear();
    PyObject *whole = make_whole(self, name);
    return whole == NULL ? NULL : PyObject_GetAttr(whole, name);
}

static PyObject *
accepted_fileno(Accepted *self, PyObject *Py_UNUSED(ignored))
{
    return self->whole == NULL ? PyLong_FromLong(self->fd)
                               : PyObject_CallMethodNoArgs(self->whole, str_fileno);
}

static PyObject *
accepted_detach(Accepted *self, PyObject *Py_UNUSED(ignored))
{
    if (self->whole != NULL) {
        return PyObject_CallMethodNoArgs(self->whole, str_detach);
    }
    int fd = self->fd;
    self->fd = -1;
    return PyLong_FromLong(fd);
}

static PyObject *
accepted_close(Accepted *self, PyObject *Py_UNUSED(ignored))
{
    if (self->whole != NULL) {
        return PyObject_CallMethodNoArgs(self->whole, str_close);
    }
    int fd = self->fd, failed;
    self->fd = -1;
    if (fd >= 0) {
        Py_BEGIN_ALLOW_THREADS
        failed = close(fd);
        Py_END_ALLOW_THREADS
        if (failed && errno != ECONNRESET) { /* as `socket.close` has it */
            return PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    Py_RETURN_NONE;
}

static void
accepted_dealloc(Accepted *self)
{
    if (self->fd >= 0) {
        PyObject *kind, *error, *trace;
        PyErr_Fetch(&kind, &error, &trace);
        if (PyErr_ResourceWarning(NULL, 1, "unclosed socket %d", self->fd) < 0) {
            PyErr_WriteUnraisable(NULL);
        }
        PyErr_Restore(kind, error, trace);
        close(self->fd);
    }
    Py_CLEAR(self->whole);
    PyObject_Free(self);
}

static PyObject *
host_of(struct in_addr address)
{
    if (last_host == NULL || last_address.s_addr != address.s_addr) {
        char text[INET_ADDRSTRLEN];
        PyObject *host =
            PyUnicode_FromString(inet_ntop(AF_INET, &address, text, sizeof text) ? text : "");
        if (host == NULL) {
            return NULL;
        }
        Py_XSETREF(last_host, host);
        last_address = address;
    }
    return Py_NewRef(last_host);
}

/* The address of its peer, as accept(2) has told it. Few ask, and a tuple with its number takes more
   than all the rest. */
static PyObject *
accepted_peer(Accepted *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *host = host_of(self->host);
    return host == NULL ? NULL : Py_BuildValue("(Ni)", host, (int)self->port);
}

static PyMethodDef accepted_methods[] = {
    {"fileno", (PyCFunction)accepted_fileno, METH_NOARGS, NULL},
    {"detach", (PyCFunction)accepted_detach, METH_NOARGS, NULL},
    {"close", (PyCFunction)accepted_close, METH_NOARGS, NULL},
    {"peer", (PyCFunction)accepted_peer, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Accepted_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock._fast.Accepted",
    .tp_doc = "A connected socket, fresh from accept(2).",
    .tp_basicsize = sizeof(Accepted),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_dealloc = (destructor)accepted_dealloc,
    .tp_getattro = (getattrofunc)accepted_getattr,
    .tp_methods = accepted_methods,
};

/* accept(descriptor of a socket that listens, whether what is accepted may block): what was accepted;
   of IPv4 alone. Raises what accept(2) says, as OSError. */
static PyObject *
accept_(PyObject *Py_UNUSED(module), PyObject *args)
{
    int listener, blocking, fd;
    if (!PyArg_ParseTuple(args, "ip:accept", &listener, &blocking)) {
        return NULL;
    }
    struct sockaddr_in peer = {.sin_family = AF_UNSPEC};
    socklen_t size;
    do {
        size = sizeof peer;
        fd = accept4(listener, (struct sockaddr *)&peer, &size,
                     SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK));
    } while (fd < 0 && errno == EINTR && PyErr_CheckSignals() == 0);
    if (fd < 0) {
        return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
    }
    Accepted *made = PyObject_New(Accepted, &Accepted_Type);
    if (made == NULL) {
        close(fd);
        return NULL;
    }
    made->whole = NULL;
    made->fd = fd;
    made->blocking = (char)blocking;
    if (peer.sin_family != AF_INET) {
        PyErr_SetString(PyExc_ValueError, "accept() is for IPv4");
        made->fd = -1;
        close(fd);
        Py_DECREF(made);
        return NULL;
    }
    made->host = peer.sin_addr;
    made->port = ntohs(peer.sin_port);
    return (PyObject *)made;
}

static int
accepting_init(void)
{
    static const Name names[] = {
        {&str_close, "close"},
        {&str_detach, "detach"},
        {&str_fileno, "fileno"},
        {&str_setblocking, "setblocking"},
        {&str_socket, "socket"},
    };
    return intern(names, sizeof names / sizeof *names) < 0 ? -1 : PyType_Ready(&Accepted_Type);
}

#endif
