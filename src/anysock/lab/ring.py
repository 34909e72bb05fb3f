"""io_uring in plain Python, for experiments: what is asked for, and what has come of it.

The kernel's interface is three system calls and shared memory (io_uring(7)): two rings, of
operations that are asked for and of those that are complete, and a table of the operations.
`examples/ladder/s15_io_uring.py` is a server on the same.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import sys
from typing import NamedTuple, Self

from anysock.lab.claims import NotMeasured
from anysock.machine.io_uring import why_refused

# Of these numbers the kernel has one for all architectures but Alpha's.
_SETUP, _ENTER = 425, 426

# struct io_uring_params, io_uring_sqe and io_uring_cqe of <linux/io_uring.h>.
_PARAMS = struct.Struct("=40x8I8x8I8x")
_OPERATION = struct.Struct("=BBHiQQIIQ24x")
_COMPLETION = struct.Struct("=QiI")

_GETEVENTS = 1
_FAST_POLL = 1 << 5  # of the features: what has to wait is polled for, and takes no thread
_OFFSET_OF_OPERATIONS = 0x10000000

SEND, RECEIVE, CANCEL = 26, 27, 14

_libc = ctypes.CDLL(None, use_errno=True)


class Completion(NamedTuple):
    """What has come of an operation: its name, and what the system call would have returned, or the
    number of the error, negative."""

    name: int
    result: int


class Ring:
    """A pair of rings. Completions are made when the thread that uses it is back from any system
    call (there is no DEFER_TASKRUN here): Linux 5.7 and later have it so.

    Raises `NotMeasured` where there is no io_uring, with the reason.
    """

    def __init__(self, entries: int = 256) -> None:
        params = bytearray(_PARAMS.size)
        struct.pack_into("=II", params, 0, entries, 2 * entries)
        self._fd = _set_up(entries, params)
        self._entries, completions = struct.unpack_from("=II", params)
        (features,) = struct.unpack_from("=I", params, 20)
        if not features & _FAST_POLL:
            os.close(self._fd)
            raise NotMeasured("io_uring is not available: it needs Linux 5.7")
        offsets = _PARAMS.unpack(params)
        self._sq_tail, sq_array = offsets[1] // 4, offsets[6] // 4
        self._cq_head, self._cq_tail = offsets[8] // 4, offsets[9] // 4
        self._completions = offsets[13]
        self._mask = completions - 1
        size = max(
            4 * (sq_array + self._entries), self._completions + completions * _COMPLETION.size
        )
        # One mapping is both rings (IORING_FEAT_SINGLE_MMAP: Linux 5.4).
        self._rings = mmap.mmap(self._fd, size)
        self._operations = mmap.mmap(self._fd, 64 * self._entries, offset=_OFFSET_OF_OPERATIONS)
        self._words = memoryview(self._rings).cast("I")
        for place in range(self._entries):
            self._words[sq_array + place] = place
        self._pending = 0
        self.calls = 0  # of io_uring_enter

    def ask(
        self,
        operation: int,
        name: int,
        *,
        fd: int = -1,
        address: int = 0,
        size: int = 0,
        flags: int = 0,
    ) -> None:
        """Ask for an operation; the next `enter` hands it over. `name` is what its completion is
        known by. The `size` bytes at `address` are the kernel's until then."""
        assert self._pending < self._entries
        place = self._words[self._sq_tail] % self._entries
        _OPERATION.pack_into(
            *(self._operations, 64 * place, operation, 0, 0, fd, 0, address, size, flags, name)
        )
        self._words[self._sq_tail] = (self._words[self._sq_tail] + 1) & 0xFFFFFFFF
        self._pending += 1

    def enter(self, wait: int = 0) -> list[Completion]:
        """Hand over what was asked for, wait for `wait` completions, and take all there are."""
        self.calls += 1
        self._pending -= _call(_ENTER, self._fd, self._pending, wait, _GETEVENTS, None, 0)
        found = []
        head = self._words[self._cq_head]
        while head != self._words[self._cq_tail]:
            place = self._completions + (head & self._mask) * _COMPLETION.size
            name, result, _ = _COMPLETION.unpack_from(self._rings, place)
            found.append(Completion(name, result))
            head = (head + 1) & 0xFFFFFFFF
        self._words[self._cq_head] = head
        return found

    def close(self) -> None:
        """Nothing may be in flight any more."""
        self._words.release()
        self._rings.close()
        self._operations.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def address_of(buffer: bytearray) -> int:
    """Where the bytes of `buffer` are. It must live, and stay where it is, until the kernel is
    done with it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _call(number: int, *arguments: int | None) -> int:
    while True:
        result: int = _libc.syscall(
            *(ctypes.c_long(number), *(ctypes.c_void_p(argument) for argument in arguments))
        )
        if result >= 0:
            return result
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def _set_up(entries: int, params: bytearray) -> int:
    if sys.platform != "linux":
        raise NotMeasured("io_uring is Linux's")
    try:
        return _call(_SETUP, entries, address_of(params))
    except OSError as error:
        raise NotMeasured(f"io_uring is not available: {why_refused(error)}") from None
