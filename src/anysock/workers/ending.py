"""The end of a server with several workers: when it drains, and its deadline."""

from __future__ import annotations

from dataclasses import dataclass

# How long workers may take to end, besides what they give their connections.
END_MARGIN_SECONDS = 3.0

# Seconds between two reports of how many connections are left.
REPORT_SECONDS = 1.0


@dataclass
class Ending:
    """Times by the supervisor's clock, in seconds."""

    began: float
    #: When the workers begin to drain, and by when the last must have ended.
    drain_at: float
    deadline: float
    draining: bool = False
    reported_at: float = 0.0

    @classmethod
    def at(cls, now: float, delay: float, timeout: float) -> Ending:
        """One that begins `now`, drains after `delay`, and may take `timeout` in all."""
        return cls(now, now + delay, now + timeout + END_MARGIN_SECONDS)

    def seconds_to_wait(self, now: float) -> float:
        """Until there is something to do, in seconds, unless something happens."""
        if not self.draining:
            return max(self.drain_at - now, 0.0)
        return max(min(self.deadline, self.reported_at + REPORT_SECONDS) - now, 0.0)

    def seconds_left(self, now: float) -> float:
        """How long the connections have from `now` on, in seconds."""
        return round(max(self.deadline - END_MARGIN_SECONDS - now, 0.0), 2)

    def is_late(self, now: float) -> bool:
        """Whether the workers that are left must be killed. If so, the answer is no for a while."""
        if now < self.deadline:
            return False
        self.deadline = now + END_MARGIN_SECONDS
        return True

    def may_report(self, now: float) -> bool:
        """Whether a report of the connections left is due; if so, it counts as made."""
        if now - self.reported_at < REPORT_SECONDS:
            return False
        self.reported_at = now
        return True
