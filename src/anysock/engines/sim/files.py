"""The file system of a host, as far as it has one: the files that Unix sockets are bound to.

Every folder exists.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import Any

# The longest name that Python lets through: of a file, with a NUL at its end (unix(7), sun_path).
_LONGEST = 108


class File:
    """A socket file; `sock` is what is bound to it, open or not."""

    def __init__(self, inode: int, sock: Any) -> None:
        self.inode = inode
        self.sock = sock
        self.mode = stat.S_IFSOCK | 0o755


class Files:
    """The files of a host, by their paths. They outlive what was bound to them, and a crash."""

    def __init__(self) -> None:
        self._files: dict[str, File] = {}
        self._inodes = itertools.count(2)

    def bind(self, path: str, sock: Any) -> None:
        """Make the file of a socket. Raises OSError, EADDRINUSE, where there is one."""
        path = os.path.normpath(path)
        if path in self._files:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._files[path] = File(next(self._inodes), sock)

    def find(self, path: Any) -> File:
        """Raises OSError, ENOENT."""
        found = self._files.get(os.path.normpath(os.fsdecode(path)))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def stat(self, path: Any) -> os.stat_result:
        file = self.find(path)
        owner = os.getuid(), os.getgid()
        return os.stat_result((file.mode, file.inode, 1, 1, *owner, 0, 0, 0, 0))

    def unlink(self, path: Any) -> None:
        self.find(path)
        del self._files[os.path.normpath(os.fsdecode(path))]

    def chmod(self, path: Any, mode: int) -> None:
        file = self.find(path)
        file.mode = stat.S_IFMT(file.mode) | stat.S_IMODE(mode)


def bytes_of(address: str | bytes) -> bytes:
    """The name of a Unix socket as the kernel has it. Raises OSError, as Python does."""
    name = os.fsencode(address)
    if len(name) > _LONGEST - (name[:1] != b"\0"):
        raise OSError("AF_UNIX path too long")
    return name


def readable(name: bytes) -> str | bytes:
    """As Python gives it: abstract names are no text."""
    return name if name[:1] == b"\0" else os.fsdecode(name)
