"""All claims, in the order in which they are told."""

from __future__ import annotations

from anysock.errors import UsageError
from anysock.lab import completions, costs, models, sockets, tasks
from anysock.lab.claims import Claim, Claims

CLAIMS = Claims()
for _module in (sockets, models, tasks, completions, costs):
    CLAIMS.update(_module.CLAIMS)


def chosen(names: tuple[str, ...]) -> list[Claim]:
    """The claims of these names, or all. Raises `UsageError` for a name that there is not."""
    unknown = [name for name in names if name not in CLAIMS]
    if unknown:
        raise UsageError(f"no such claim: {', '.join(unknown)}; there are {', '.join(CLAIMS)}")
    return [CLAIMS[name] for name in names or CLAIMS]
