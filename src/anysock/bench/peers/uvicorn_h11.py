"""uvicorn, with its implementation of HTTP by h11, on asyncio or (with --uvloop) uvloop."""

import socket
import sys

import uvicorn

from anysock.bench.work.http import BODY, HEADERS


async def app(_scope, _receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


# As asyncio would open it for uvicorn: only with the number of its protocol are its connections
# spared Nagle's algorithm, which here would hold back each body for 40 ms.
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listener.bind(("127.0.0.1", 0))
listener.listen(4096)
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(
    app,
    http="h11",
    loop="uvloop" if "--uvloop" in sys.argv else "asyncio",
    lifespan="off",
    access_log=False,
    log_level="warning",
    backlog=4096,
)
uvicorn.Server(config).run(sockets=[listener])
