"""S9, answered: a pause that has an end.

A task may wait for a socket and for a time, and what comes first wakes it. The
other one must be forgotten then: a number for each pause tells whether it is
still the one that is meant. What is not meant any more lies in the heap until
its time has come.
"""

import collections
import contextlib
import heapq
import selectors
import socket
import sys
import time
import traceback
import types

READ, WRITE, SLEEP = selectors.EVENT_READ, selectors.EVENT_WRITE, 0
PATIENCE = 60.0  # seconds that a client may be silent


@types.coroutine
def pause(why, what, seconds=None):
    """Let others run until the socket `what` is ready, or `what` seconds.
    Whether it was that, and not that `seconds` have passed before."""
    came = yield why, what, seconds
    return came


class Loop:
    def __init__(self):
        self.ready = collections.deque()  # (task, what it is told)
        self.paused = selectors.DefaultSelector()  # tasks that wait
        # (when, number, task, socket): a heap of those that sleep, or that
        # wait for a socket no longer than until then.
        self.sleeping = []
        self.number = 0  # of the pause
        self.pauses = {}  # which one each task is in

    def run(self):
        while True:
            self.run_ready_tasks()
            self.process_events(self.paused.select(self.calculate_timeout()))

    def run_ready_tasks(self):
        for _ in range(len(self.ready)):  # what becomes ready now has to wait
            task, told = self.ready.popleft()
            try:
                why, what, seconds = task.send(told)
            except StopIteration:
                continue  # it is done
            except Exception:  # the task's failure is not the loop's
                traceback.print_exc()
                continue
            self.number += 1
            self.pauses[task] = self.number
            if why == SLEEP:
                seconds, what = what, None
            else:
                self.paused.register(what, why, task)
            if seconds is not None:
                when = time.monotonic() + seconds
                heapq.heappush(self.sleeping, (when, self.number, task, what))

    def calculate_timeout(self):
        if self.ready:
            return 0
        if self.sleeping:
            return max(self.sleeping[0][0] - time.monotonic(), 0)
        return None

    def process_events(self, events):
        for key, _ in events:
            self.paused.unregister(key.fileobj)
            self.wake(key.data, True)
        while self.sleeping and self.sleeping[0][0] <= time.monotonic():
            _, number, task, what = heapq.heappop(self.sleeping)
            if self.pauses.get(task) != number:
                continue  # it was woken before
            if what is not None:
                self.paused.unregister(what)
            self.wake(task, what is None)

    def wake(self, task, told):
        del self.pauses[task]
        self.ready.append((task, told))


async def echo(connection, patience):
    with connection, contextlib.suppress(ConnectionError):
        connection.setblocking(False)
        while True:
            if not await pause(READ, connection, patience):
                print("It was silent for too long.")
                return
            data = connection.recv(65536)
            if not data:
                return
            print(f"I got data: {data}!")
            while data:
                await pause(WRITE, connection)
                data = data[connection.send(data) :]


async def listen(loop, listener, patience):
    while True:
        await pause(READ, listener)
        # Where it has left again meanwhile:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            loop.ready.append((echo(connection, patience), None))


async def tell_the_time():
    for seconds in range(1, sys.maxsize):
        await pause(SLEEP, 1)
        print(f"{seconds} s, and nobody was kept waiting")


def main(host="127.0.0.1", port=8000, seconds=PATIENCE):
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        loop = Loop()
        listening = listen(loop, listener, float(seconds))
        loop.ready += [(listening, None), (tell_the_time(), None)]
        loop.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
