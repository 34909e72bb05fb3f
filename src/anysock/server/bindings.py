"""What an address stands for on this machine."""

from __future__ import annotations

from anysock.engines.base import Binding
from anysock.engines.posix.listening import Missing, without_missing
from anysock.net.addresses import Address, binding_of, explain_bind_error


def binding_here(address: Address) -> tuple[Binding, list[Missing]]:
    """What to listen on for `address`, as far as this machine has it; and what it stands for
    besides, and the machine does not have.

    Raises `StartError` when nothing is left, and what `resolve` raises.
    """
    try:
        return without_missing(binding_of(address))
    except OSError as error:
        raise explain_bind_error(error, address.scheme) from None
