"""What a shell is told when Tab is pressed, by click's protocol: known names, and files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from click import Context, Parameter
from click.shell_completion import CompletionItem, get_completion_class

from anysock.errors import UsageError

#: In this a shell says what it wants: ``bash_source``, or ``bash_complete`` at each Tab.
VARIABLE = "_ANYSOCK_COMPLETE"

#: What a shell is told: names, with a word on each.
Choices = Mapping[str, str]


def known(choices: Choices, begun: str) -> list[CompletionItem[str]]:
    """Those of `choices` that go on as `begun`."""
    return [
        CompletionItem(name, help=says) for name, says in choices.items() if name.startswith(begun)
    ]


def files(begun: str) -> list[CompletionItem[str]]:
    """The shell's own: it knows them best."""
    return [CompletionItem(begun, type="file")]


def completing(
    choices: Callable[[], Choices],
) -> Callable[[Context, Parameter, str], list[CompletionItem[str]]]:
    """For ``shell_complete=`` of click: `choices`, each once where several can be given."""

    def complete(ctx: Context, param: Parameter, begun: str) -> list[CompletionItem[str]]:
        given: Any = ctx.params.get(param.name or "") if param.nargs == -1 else ()
        return [item for item in known(choices(), begun) if item.value not in (given or ())]

    return complete


def check_request() -> None:
    """Raises `UsageError` where the environment asks for what no shell would."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    shell, _, what = asked.partition("_")
    if get_completion_class(shell) is None or what not in ("source", "complete"):
        raise UsageError(
            f"{VARIABLE}: expected bash_source, zsh_source or fish_source, not {asked!r}"
        )
    if what == "complete" and not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys():
        raise UsageError(
            f"{VARIABLE}={asked} is for the shell, at each Tab; what it needs before is printed "
            f"with {VARIABLE}={shell}_source"
        )
