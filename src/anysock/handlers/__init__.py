"""The standard services, each in a file of its own, and how a handler is found by its name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from anysock.errors import UsageError
from anysock.faults import with_faults
from anysock.handlers.checking import checked
from anysock.options.checks import check_tls_is_spoken
from anysock.options.units import raw_bytes
from anysock.streams.connection import Connection
from anysock.streams.running import State_co
from anysock.streams.tracing import TracingStream

if TYPE_CHECKING:
    from anysock.options.serve import ServeOptions

#: A handler: called with each connection; when it returns, the connection is closed. For a type
#: checker, ``Handler[App]`` is one whose `Connection.state` is an ``App``.
Handler: TypeAlias = Callable[[Connection[State_co]], Awaitable[object]]

#: The standard handlers: each name, and what it does.
HANDLERS = {
    "echo": "bytes back as they come (RFC 862)",
    "lines": "each line back, with a prefix",
    "discard": "takes everything, answers nothing (RFC 863)",
    "chargen": "sends characters until the client leaves (RFC 864)",
    "daytime": "tells date and time in words (RFC 867)",
    "time": "tells the time in 4 bytes (RFC 868)",
}


def load_handler(name: str, options: ServeOptions) -> Handler:
    """The handler of that name: a standard one, or the user's own ``package.module:function``.

    The user's module is looked for in the current folder, too. Raises `UsageError` when it is not
    found, and `WrongType` when it is no handler. `options` are for the handlers that take some; and
    none of the standard ones starts TLS itself (`check_tls_is_spoken`).
    """
    if name in HANDLERS:
        check_tls_is_spoken(options)
        module = importlib.import_module(f"anysock.handlers.{name}")
        if name == "lines":
            prefix = raw_bytes(options.prefix)
            lines: Handler = module.make_lines(prefix=prefix, max_line=options.max_line)
            return lines
        handler: Handler = getattr(module, name)
        return handler
    if ":" not in name:
        raise UsageError(
            f"unknown handler {name!r}: choose one of {', '.join(HANDLERS)}, "
            "or name one of your own as package.module:function"
        )
    return checked(named(name, "handler"), repr(name))


def prepare(handler: Handler | str, options: ServeOptions) -> Handler:
    """The handler as the server calls it: loaded, if it is a name, and with the faults and the
    trace that `options` ask for around its connections. Raises what `load_handler` raises, and
    `WrongType` for an object that can't be a handler."""
    found = load_handler(handler, options) if isinstance(handler, str) else checked(handler)
    found = with_faults(found, options)
    if not options.verbose:
        return found

    async def traced(connection: Connection) -> None:
        # Inside of the faults: the trace shows what the network has brought.
        connection.wrap(TracingStream)
        await found(connection)

    return traced


def named(name: str, what: str) -> Any:
    """The object behind ``package.module:function``, which is to be a `what`. Its module is looked
    for in the current folder, too. Raises `UsageError` when it is not found."""
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise UsageError(f"no {what} {name!r}: name it as package.module:function")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, but not one that it imports: the traceback says so
        raise UsageError(
            f"no module {error.name!r} for the {what} {name!r}: it is looked for in {folder} "
            "and among what is installed"
        ) from None
    except ValueError:
        raise UsageError(f"no {what} {name!r}: name it as package.module:function") from None
    found = getattr(module, function_name, None)
    if found is None:
        raise UsageError(f"the module {module_name!r} has no {function_name!r}")
    return found
