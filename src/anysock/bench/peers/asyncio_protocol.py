"""asyncio, or another loop for it: a Protocol, whose callbacks get the data.

python asyncio_protocol.py [--loop MODULE]
"""

import asyncio
import importlib
import sys


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    # Back-pressure: nothing is received while too much waits to be sent.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Not `serve_forever`: rloop closes a server that serves already.
    await loop.create_future()


if "--loop" in sys.argv:
    module = importlib.import_module(sys.argv[sys.argv.index("--loop") + 1])
    # What most of them call it; talyn has the class alone.
    factory = getattr(module, "new_event_loop", None) or module.Loop
else:
    factory = asyncio.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
