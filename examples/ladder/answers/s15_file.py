"""S15, answered: a file is sent to each client first.

It is read by an operation, like all others. A selector has no answer for files:
they are always ready, and then the read waits for the disk, and with it the
whole program. (To open the file does so here; that is an operation as well, but
not one of this program.)
"""

import contextlib
import ctypes
import errno
import mmap
import os
import signal
import socket
import struct
import sys
import traceback
import types

# <linux/io_uring.h>: system calls, and how things are written down.
SETUP, ENTER = 425, 426
# What is complete comes in our own ENTER alone.
SINGLE_ISSUER, DEFER_TASKRUN = 1 << 12, 1 << 13
GETEVENTS = 1
OPERATIONS_AT = 0x10000000
# Code, fd, an offset, address, size, flags, number.
OPERATION = struct.Struct("=BxxxiQQIIQ24x")
COMPLETION = struct.Struct("=QiI")  # number, result, flags
ACCEPT, CANCEL, READ, SEND, RECEIVE = 13, 14, 22, 26, 27
ALL, ANY = 1, 4  # how many to cancel, and which

libc = ctypes.CDLL(None, use_errno=True)


def system_call(*arguments):
    result = libc.syscall(*map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Ring:
    """What we share with the kernel: operations asked for, and completions."""

    def __init__(self, entries=256):
        self.entries, self.unsubmitted = entries, 0
        flags = SINGLE_ISSUER | DEFER_TASKRUN
        told = (ctypes.c_uint32 * 30)(0, 0, flags)  # io_uring_params
        self.fd = system_call(SETUP, entries, ctypes.addressof(told))
        # Where things are: words of four bytes. Each ring has a head (taken)
        # and a tail (put).
        self.asked_tail, order = told[11] // 4, told[16] // 4
        self.done_head, self.done_tail = told[20] // 4, told[21] // 4
        self.done, self.done_entries = told[25], told[1]
        end = self.done + COMPLETION.size * self.done_entries
        self.rings = mmap.mmap(self.fd, max(told[16] + 4 * entries, end))
        size = OPERATION.size * entries
        self.operations = mmap.mmap(self.fd, size, offset=OPERATIONS_AT)
        self.words = memoryview(self.rings).cast("I")
        for place in range(entries):
            self.words[order + place] = place

    def ask(self, number, operation):
        code, fd, buffer, size, flags = operation
        if self.unsubmitted == self.entries:
            self.submit()
        tail = self.words[self.asked_tail]
        where = OPERATION.size * (tail % self.entries)
        address = ctypes.addressof(buffer) if buffer else 0
        fields = code, fd, 0, address, size, flags, number
        OPERATION.pack_into(self.operations, where, *fields)
        self.words[self.asked_tail] = (tail + 1) % 2**32
        self.unsubmitted += 1

    def submit(self, wait=0):
        """Hand over what was asked for; sleep until so many are complete."""
        asked = self.fd, self.unsubmitted, wait, GETEVENTS, 0, 0
        try:
            self.unsubmitted -= system_call(ENTER, *asked)
        except OSError as error:
            # A signal; or there is no memory, or no room for completions.
            if error.errno not in (errno.EINTR, errno.EAGAIN, errno.EBUSY):
                raise

    def completed(self):
        words = self.words
        while (head := words[self.done_head]) != words[self.done_tail]:
            where = self.done + COMPLETION.size * (head % self.done_entries)
            number, result, _ = COMPLETION.unpack_from(self.rings, where)
            words[self.done_head] = (head + 1) % 2**32  # it may be used again
            yield number, result


class Cancelled(Exception):
    """The operation was cancelled before it was complete."""


@types.coroutine
def completion(code, fd, buffer=None, size=0, flags=0):
    """Let others run until it is complete: what the system call would say."""
    result = yield code, fd, buffer, size, flags
    if result == -errno.ECANCELED:
        raise Cancelled
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


class Loop:
    def __init__(self, ring):
        self.ring = ring
        # By number: the task that waits, and what the kernel may write to.
        self.in_flight = {}
        self.number = 0
        self.ending = False

    def run(self):
        while self.in_flight:
            self.ring.submit(wait=1)
            for number, result in self.ring.completed():
                if number:  # 0 is the cancellation
                    task, _ = self.in_flight.pop(number)
                    self.step(task, result)

    def step(self, task, result=None):
        try:
            operation = task.send(result)
            # What was complete before it was cancelled asks for no more.
            while self.ending:
                operation = task.send(-errno.ECANCELED)
        except (StopIteration, Cancelled):
            return
        except Exception:  # the task's failure is not the loop's
            traceback.print_exc()
            return
        self.number += 1
        self.in_flight[self.number] = task, operation
        self.ring.ask(self.number, operation)


async def echo(connection, file):
    buffer = ctypes.create_string_buffer(16384)
    whole = socket.MSG_WAITALL | socket.MSG_NOSIGNAL  # all of it, or an error
    fd = connection.fileno()
    with connection, contextlib.suppress(OSError):  # the client is gone
        print(f"I got a connection from {connection.getpeername()}!")
        # From its beginning: the offset of an operation is 0 here.
        if size := await completion(READ, file.fileno(), buffer, len(buffer)):
            await completion(SEND, fd, buffer, size, whole)
        while size := await completion(RECEIVE, fd, buffer, len(buffer)):
            print(f"I got data: {buffer[:size]}!")
            await completion(SEND, fd, buffer, size, whole)


async def listen(loop, listener, file):
    while True:
        with contextlib.suppress(ConnectionError):  # the client has left again
            number = await completion(ACCEPT, listener.fileno())
            loop.step(echo(socket.socket(fileno=number), file))


async def end_at_ctrl_c(loop):
    """A signal is a completion, too: Python writes into a socket."""
    near, far = socket.socketpair()
    with near, far:
        far.setblocking(False)
        signal.set_wakeup_fd(far.fileno())
        signal.signal(signal.SIGINT, lambda *_: None)
        buffer = ctypes.create_string_buffer(1)
        await completion(RECEIVE, near.fileno(), buffer, 1)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second ends at once
        signal.set_wakeup_fd(-1)
    print(f"{len(loop.in_flight)} operations are in flight: they are cancelled")
    loop.ending = True
    loop.ring.ask(0, (CANCEL, -1, None, 0, ALL | ANY))


def main(host="127.0.0.1", port=8000, name=__file__):
    if sys.platform != "linux":
        sys.exit("io_uring is Linux's")
    try:
        loop = Loop(Ring())
    except OSError as error:
        why = f"{error.strerror} (before Linux 6.1, or refused)"
        sys.exit(f"io_uring is not available: {why}")
    with (
        open(name, "rb") as file,
        socket.create_server((host, int(port))) as listener,
    ):
        loop.step(end_at_ctrl_c(loop))
        loop.step(listen(loop, listener, file))
        loop.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
