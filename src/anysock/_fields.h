/* What each stream has, as fields of C. The numbers that its messages change: as objects of Python,
 * each would be made anew for each message. And what has happened to it: eight bytes, and not eight
 * slots. Where nothing is compiled, they are slots (`engines/posix/fields.py`, `engines/stream_state.py`).
 */

#ifndef ANYSOCK_FIELDS_H
#define ANYSOCK_FIELDS_H

#include "_step.h"

typedef struct {
    PyObject_HEAD
    long long received, sent, counted_since;
    Py_ssize_t recv_size, max_recv_size, unsent;
    int fd, write_fd, budget;
    char more;
} Fields;

static PyMemberDef fields_members[] = {
    {"bytes_received", T_LONGLONG, offsetof(Fields, received), 0, NULL},
    {"bytes_sent", T_LONGLONG, offsetof(Fields, sent), 0, NULL},
    {"unsent", T_PYSSIZET, offsetof(Fields, unsent), 0, NULL},
    {"_recv_size", T_PYSSIZET, offsetof(Fields, recv_size), 0, NULL},
    {"_max_recv_size", T_PYSSIZET, offsetof(Fields, max_recv_size), 0, NULL},
    {"_fd", T_INT, offsetof(Fields, fd), 0, NULL},
    {"_write_fd", T_INT, offsetof(Fields, write_fd), 0, NULL},
    {"_budget", T_INT, offsetof(Fields, budget), 0, NULL},
    {"_counted_since", T_LONGLONG, offsetof(Fields, counted_since), 0, NULL},
    {"_more", T_BOOL, offsetof(Fields, more), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* _begin(fd, recv_size, max_recv_size, budget): all as it is for a new stream. */
static PyObject *
fields_begin(Fields *self, PyObject *args)
{
    if (!PyArg_ParseTuple(args, "inni:_begin", &self->fd, &self->recv_size, &self->max_recv_size,
                          &self->budget)) {
        return NULL;
    }
    self->write_fd = self->fd;
    self->received = self->sent = self->counted_since = self->unsent = 0;
    self->more = 1;
    Py_RETURN_NONE;
}

static PyMethodDef fields_methods[] = {
    {"_begin", (PyCFunction)fields_begin, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject Fields_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock._fast.Fields",
    .tp_doc = "The numbers that a stream's messages change.",
    .tp_basicsize = sizeof(Fields),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_members = fields_members,
    .tp_methods = fields_methods,
};

/* -- what has happened ----------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *lost; /* NULL: None */
    char closed, aborted, cut_short, end_sent, end_received, receiving_ended, receiving_over,
        letting_go;
} Flags;

static PyMemberDef flags_members[] = {
    {"closed", T_BOOL, offsetof(Flags, closed), 0, NULL},
    {"aborted", T_BOOL, offsetof(Flags, aborted), 0, NULL},
    {"cut_short", T_BOOL, offsetof(Flags, cut_short), 0, NULL},
    {"end_sent", T_BOOL, offsetof(Flags, end_sent), 0, NULL},
    {"end_received", T_BOOL, offsetof(Flags, end_received), 0, NULL},
    {"receiving_ended", T_BOOL, offsetof(Flags, receiving_ended), 0, NULL},
    {"receiving_over", T_BOOL, offsetof(Flags, receiving_over), 0, NULL},
    {"letting_go", T_BOOL, offsetof(Flags, letting_go), 0, NULL},
    {"lost", T_OBJECT, offsetof(Flags, lost), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static int
flags_traverse(Flags *self, visitproc visit, void *arg)
{
    Py_VISIT(self->lost);
    return 0;
}

static int
flags_clear(Flags *self)
{
    Py_CLEAR(self->lost);
    return 0;
}

static void
flags_dealloc(Flags *self)
{
    PyObject_GC_UnTrack(self);
    flags_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject Flags_Type = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "anysock._fast.Flags",
    .tp_doc = "What has happened to a stream.",
    .tp_basicsize = sizeof(Flags),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_traverse = (traverseproc)flags_traverse,
    .tp_clear = (inquiry)flags_clear,
    .tp_dealloc = (destructor)flags_dealloc,
    .tp_members = flags_members,
};

#endif
