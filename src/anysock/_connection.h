/* `recv` and `send_all` of a connection, where nothing is buffered: they are its stream's. In Python
 * a frame more would be made for each message, or two bound methods kept for each connection.
 */

#ifndef ANYSOCK_CONNECTION_H
#define ANYSOCK_CONNECTION_H

#include "_receiving.h"

static struct {
    PyTypeObject *type, *buffers;
    Py_ssize_t stream, buffer;
    Py_ssize_t data; /* of a buffer */
} connection;

static PyObject *str_recv, *str_send_all, *str_recv_buffered, *str_send_list;

typedef PyObject *(*FunctionOfRecv)(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                    PyObject *names);

/* The methods of the class of streams that was met last: one server has one. Of those that are in C,
   be it in the module of another engine, the function itself. */
static struct {
    PyTypeObject *type;
    unsigned version;
    PyObject *recv, *send_all; /* borrowed: the class has them as long as it has that version */
    FunctionOfRecv recv_in_c;
    PyCFunction send_all_in_c;
} known;

/* The function of `method`, a method in C of that type, which takes its arguments as `flags` say; NULL:
   it is none. */
static PyCFunction
function_of(PyTypeObject *type, PyObject *method, int flags)
{
    if (!Py_IS_TYPE(method, &PyMethodDescr_Type) ||
        !PyType_IsSubtype(type, PyDescr_TYPE(method))) {
        return NULL;
    }
    PyMethodDef *definition = ((PyMethodDescrObject *)method)->d_method;
    return definition->ml_flags == flags ? definition->ml_meth : NULL;
}

static inline int
know_methods(PyTypeObject *type)
{
    if (type == known.type && type->tp_version_tag == known.version &&
        PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) {
        return 1;
    }
    PyObject *recv = _PyType_Lookup(type, str_recv), *send_all = _PyType_Lookup(type, str_send_all);
    /* A function, or what behaves as one; but not where an object may have one of its own. */
    if (recv == NULL || send_all == NULL || type->tp_dictoffset ||
        !PyType_HasFeature(Py_TYPE(recv), Py_TPFLAGS_METHOD_DESCRIPTOR) ||
        !PyType_HasFeature(Py_TYPE(send_all), Py_TPFLAGS_METHOD_DESCRIPTOR) ||
        !PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG)) {
        return 0;
    }
    known.type = type;
    known.version = type->tp_version_tag;
    known.recv = recv;
    known.send_all = send_all;
    known.recv_in_c = (FunctionOfRecv)(void (*)(void))function_of(
        type, recv, METH_FASTCALL | METH_KEYWORDS);
    known.send_all_in_c = function_of(type, send_all, METH_O);
    return 1;
}

/* `recv` of the stream of a connection. */
static inline PyObject *
recv_of_stream(PyObject *self, PyObject *max_bytes)
{
    PyObject *owner = get(self, connection.stream);
    if (owner == NULL) {
        return NULL;
    }
    PyObject *both[] = {owner, max_bytes};
    Py_ssize_t given = max_bytes == Py_None ? 1 : 2;
    PyObject *result = !know_methods(Py_TYPE(owner))
                           ? PyObject_VectorcallMethod(str_recv, both, (size_t)given, NULL)
                       : known.recv_in_c ? known.recv_in_c(owner, both + 1, given - 1, NULL)
                                         : PyObject_Vectorcall(known.recv, both, (size_t)given, NULL);
    Py_DECREF(owner);
    return result;
}

static PyObject *
connection_recv(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    PyObject *max_bytes = max_bytes_of(args, count, names);
    if (max_bytes == NULL) {
        return NULL;
    }
    if (SLOT(self, connection.buffer) != Py_None) {
        return PyObject_CallMethodOneArg(self, str_recv_buffered, max_bytes);
    }
    return recv_of_stream(self, max_bytes);
}

static PyObject *
connection_send_all(PyObject *self, PyObject *data)
{
    if (PyList_Check(data) || PyTuple_Check(data)) {
        return PyObject_CallMethodOneArg(self, str_send_list, data);
    }
    PyObject *owner = get(self, connection.stream);
    if (owner == NULL) {
        return NULL;
    }
    PyObject *both[] = {owner, data};
    PyObject *result = !know_methods(Py_TYPE(owner))
                           ? PyObject_VectorcallMethod(str_send_all, both, 2, NULL)
                       : known.send_all_in_c ? known.send_all_in_c(owner, data)
                                             : PyObject_Vectorcall(known.send_all, both, 2, NULL);
    Py_DECREF(owner);
    return result;
}

static PyMethodDef connection_recv_method = {
    "recv", (PyCFunction)(void (*)(void))connection_recv, METH_FASTCALL | METH_KEYWORDS, NULL};
static PyMethodDef connection_send_all_method = {"send_all", connection_send_all, METH_O, NULL};

/* Its documentation is that of the Python method, whose place it takes. */
static int
document(PyMethodDef *method, const char *signature, PyObject *text)
{
    PyObject *whole = PyUnicode_FromFormat("%s(%s)\n--\n\n%S", method->ml_name, signature, text);
    const char *bytes = whole == NULL ? NULL : PyUnicode_AsUTF8(whole);
    method->ml_doc = bytes == NULL ? NULL : strdup(bytes);
    Py_XDECREF(whole);
    return method->ml_doc == NULL ? -1 : 0;
}

/* bind_connection(connection class, class of its buffers, what is said of recv, and of send_all):
   `recv` and `send_all`, methods of that class. For one class in a process. */
static PyObject *
bind_connection(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyTypeObject *connections, *buffers;
    PyObject *of_recv, *of_send_all;
    if (!PyArg_ParseTuple(args, "O!O!OO", &PyType_Type, &connections, &PyType_Type, &buffers,
                          &of_recv, &of_send_all)) {
        return NULL;
    }
    const Slot slots[] = {
        {&connection.stream, connections, "_stream"},
        {&connection.buffer, connections, "_buffer"},
        {&connection.data, buffers, "data"},
    };
    if (find_slots(slots, sizeof slots / sizeof *slots) < 0 ||
        document(&connection_recv_method, "$self, max_bytes=None", of_recv) < 0 ||
        document(&connection_send_all_method, "$self, data, /", of_send_all) < 0) {
        return NULL;
    }
    Py_XSETREF(connection.type, (PyTypeObject *)Py_NewRef(connections));
    Py_XSETREF(connection.buffers, (PyTypeObject *)Py_NewRef(buffers));
    return Py_BuildValue("(NN)", PyDescr_NewMethod(connections, &connection_recv_method),
                         PyDescr_NewMethod(connections, &connection_send_all_method));
}

static int
connection_init(void)
{
    static const Name names[] = {
        {&str_recv, "recv"},
        {&str_send_all, "send_all"},
        {&str_recv_buffered, "_recv_buffered"},
        {&str_send_list, "_send_list"},
    };
    return intern(names, sizeof names / sizeof *names);
}

#endif
