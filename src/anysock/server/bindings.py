"""What an address stands for on this machine."""

from __future__ import annotations

from anysock.engines.base import Binding, Machine, Missing
from anysock.net.addresses import Address, binding_of, explain_bind_error, format_sockaddr
from anysock.telemetry.events import Events


def binding_here(address: Address, machine: Machine) -> tuple[Binding, list[Missing]]:
    """What to listen on for `address`, as far as `machine` has it; and the addresses that it stands
    for and `machine` does not have.

    Raises `StartError` when nothing is left, and what `resolve` raises.
    """
    try:
        return machine.without_missing(binding_of(address, machine))
    except OSError as error:
        raise explain_bind_error(error, address.scheme) from None


def binding_told(address: Address, machine: Machine, events: Events) -> Binding:
    """The binding of `binding_here`; missing addresses are reported to `events`."""
    binding, missing = binding_here(address, machine)
    for each in missing:
        events.address_left_out(format_sockaddr(each.address, address.scheme), each.reason)
    return binding
