"""S9, answered: who is still there is told goodbye.

close() makes a paused coroutine go on with GeneratorExit, at the very place
where it waits: so its `finally` runs, and its `with` closes the socket. It may
not wait any more: nobody would resume it.
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


@types.coroutine
def pause(why, what):
    """Let others run until the socket `what` is ready, or `what` seconds."""
    yield why, what


class Loop:
    def __init__(self):
        self.ready = collections.deque()  # tasks that can run now
        self.paused = selectors.DefaultSelector()  # tasks that wait
        self.sleeping = []  # (when, number, task): a heap of those that sleep
        self.number = 0  # of equal times, the first to sleep wakes first

    def run(self):
        while True:
            self.run_ready_tasks()
            self.process_events(self.paused.select(self.calculate_timeout()))

    def close(self):
        tasks = [key.data for key in self.paused.get_map().values()]
        for task in [*tasks, *self.ready, *(each[2] for each in self.sleeping)]:
            task.close()

    def run_ready_tasks(self):
        for _ in range(len(self.ready)):  # what becomes ready now has to wait
            task = self.ready.popleft()
            try:
                why, what = task.send(None)
            except StopIteration:
                continue  # it is done
            except Exception:  # the task's failure is not the loop's
                traceback.print_exc()
                continue
            if why == SLEEP:
                self.number += 1
                when = time.monotonic() + what
                heapq.heappush(self.sleeping, (when, self.number, task))
            else:
                self.paused.register(what, why, task)

    def calculate_timeout(self):
        if self.ready:
            return 0
        if self.sleeping:
            return max(self.sleeping[0][0] - time.monotonic(), 0)
        return None

    def process_events(self, events):
        for key, _ in events:
            self.paused.unregister(key.fileobj)
            self.ready.append(key.data)
        while self.sleeping and self.sleeping[0][0] <= time.monotonic():
            self.ready.append(heapq.heappop(self.sleeping)[2])


async def echo(connection):
    with connection, contextlib.suppress(ConnectionError):
        connection.setblocking(False)
        try:
            while True:
                await pause(READ, connection)
                data = connection.recv(65536)
                if not data:
                    return
                print(f"I got data: {data}!")
                while data:
                    await pause(WRITE, connection)
                    data = data[connection.send(data) :]
        except GeneratorExit:
            with contextlib.suppress(OSError):  # there may be no room
                connection.send(b"goodbye\r\n")
            raise


async def listen(loop, listener):
    while True:
        await pause(READ, listener)
        # Where it has left again meanwhile:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, address = listener.accept()
            print(f"I got a connection from {address}!")
            loop.ready.append(echo(connection))


async def tell_the_time():
    for seconds in range(1, sys.maxsize):
        await pause(SLEEP, 1)
        print(f"{seconds} s, and nobody was kept waiting")


def main(host="127.0.0.1", port=8000):
    with socket.create_server((host, int(port))) as listener:
        listener.setblocking(False)
        loop = Loop()
        loop.ready += [listen(loop, listener), tell_the_time()]
        try:
            loop.run()
        finally:
            loop.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(*sys.argv[1:])
