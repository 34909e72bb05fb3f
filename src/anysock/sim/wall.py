"""The real clock. It decides nothing in a history: it tells how fast histories are, and bounds how
long they are looked for."""

from __future__ import annotations

import time

#: In seconds, from any moment.
seconds = time.monotonic

#: In seconds, of computing by this process: on a busy machine, others are not counted.
computing = time.process_time
