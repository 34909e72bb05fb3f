"""Run a program as systemd does: with descriptors from 3 on, and its own PID in the environment.

python as_systemd_does.py FD,FD,… COMMAND…
"""

from __future__ import annotations

import fcntl
import os
import sys

fds = [int(fd) for fd in sys.argv[1].split(",") if fd]
# Out of each other's way first.
copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place)
    os.close(copy)
for fd in fds:
    if fd >= 3 + len(fds):
        os.close(fd)
if fds:
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds))}
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
