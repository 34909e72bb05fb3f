"""The logger of one connection."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from anysock.engines.base import SockAddr

_log = logging.getLogger("anysock.handler")


class ConnectionLog(logging.LoggerAdapter[logging.Logger]):
    """Logs to ``anysock.handler``. Its records have the attributes ``connection`` (its id) and
    ``peer``, besides those that the caller gives with ``extra=``."""

    def __init__(self, id: str, peer: SockAddr) -> None:
        super().__init__(_log, {"connection": id, "peer": peer, "of_handler": True})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs
