"""OpenSSL's random numbers, drawn from a seeded stream while a simulation runs.

The bytes of TLS depend on them: the same history would have others each time, and with some kinds
of keys even another number of them. OpenSSL's generator can be replaced
(`RAND_set_rand_method(3)`), which Python does not offer; `ctypes` finds it in the very library that
the module `ssl` is linked with.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
import threading
from collections.abc import Callable, Iterator
from os import urandom

_Fill = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Status = ctypes.CFUNCTYPE(ctypes.c_int)


class _RandMethod(ctypes.Structure):
    """RAND_METHOD of OpenSSL's ``rand.h``. What is NULL is not called."""

    _fields_ = (
        ("seed", ctypes.c_void_p),
        ("bytes", _Fill),
        ("cleanup", ctypes.c_void_p),
        ("add", ctypes.c_void_p),
        ("pseudorand", _Fill),
        ("status", _Status),
    )


class Generator:
    """What stands in for OpenSSL's generator. One thread has the stream: whatever the others do
    meanwhile stays secret."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._get, self._set = library.RAND_get_rand_method, library.RAND_set_rand_method
        self._get.restype = ctypes.c_void_p
        self._set.argtypes = [ctypes.c_void_p]
        fill = _Fill(self._fill)
        self._method = _RandMethod(bytes=fill, pseudorand=fill, status=_Status(lambda: 1))
        self._stream: Callable[[], random.Random] | None = None
        self._owner = 0
        self._raised: BaseException | None = None

    def _fill(self, address: int, count: int) -> int:
        try:
            if self._stream is not None and threading.get_ident() == self._owner:
                data = self._stream().randbytes(count)
            else:
                data = urandom(count)
            ctypes.memmove(address, data, count)
        except BaseException as error:  # noqa: BLE001
            # Such as a KeyboardInterrupt. It can't pass through C: OpenSSL is told of a failure,
            # and the block raises it when it ends.
            self._raised = error
            return 0
        return 1

    @contextlib.contextmanager
    def drawing(self, stream: Callable[[], random.Random]) -> Iterator[None]:
        before = self._get(), self._stream, self._owner
        self._stream, self._owner = stream, threading.get_ident()
        self._set(ctypes.addressof(self._method))
        try:
            yield
        finally:
            method, self._stream, self._owner = before
            self._set(method)
            raised, self._raised = self._raised, None
            if raised is not None:
                raise raised

    def works(self) -> bool:
        """Whether the library is the one that `ssl` uses, and heeds what it was given."""
        import ssl

        stream = random.Random(0)
        with self.drawing(lambda: stream):
            return ssl.RAND_bytes(16) == random.Random(0).randbytes(16)


#: What to say where `generator` gives None.
NOT_EXACT = (
    "this Python's OpenSSL keeps its random numbers to itself, as it does where it is linked "
    "statically: the bytes of TLS differ each time, and only their number is the same"
)


@functools.cache
def generator() -> Generator | None:
    """None where OpenSSL's random numbers can't be replaced, or there is no OpenSSL."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import _ssl

        # Where it is no file, it is built into the interpreter, as OpenSSL may be.
        found = Generator(ctypes.CDLL(getattr(_ssl, "__file__", None)))
        if found.works():
            return found
    return None


@contextlib.contextmanager
def seeded(stream: Callable[[], random.Random]) -> Iterator[bool]:
    """Within the block, OpenSSL draws its random numbers from ``stream()``, in this thread. Gives
    whether it does; where not, only the lengths of what TLS sends are repeatable, with a key of
    Ed25519 or RSA (a signature of ECDSA has no certain length).

    Keys that are made within the block are no secret: leave none of its contexts and connections
    to what comes after.
    """
    found = generator()
    if found is None:
        yield False
    else:
        with found.drawing(stream):
            yield True
