"""Directives for Sphinx: the programs of the ladder, whole or a piece at a time, with what is new
since another program marked; and exercises with their answers.

    ```{rung} s05_nonblocking_accept.py
    :since: s04_blocking.py
    :from: listener.setblocking
    :to: BlockingIOError
    ```

shows the lines from the first that has the text `from` to the first after it that has the text
`to`; without `to`, all that is further in; without `from`, the whole program.

    ```{exercise} s05_try_again
    :since: s05_nonblocking_accept.py
    What is asked.

    +++
    What the answer is. If there is `answers/s05_try_again.py`, it is shown below it.
    ```

The name of an exercise is also that of the test which tries its answer:
tests/documents/test_exercises.py.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

LADDER = Path(__file__).parents[2] / "examples" / "ladder"

# What is between the question and the answer of an exercise.
_BETWEEN = "+++"


def program(name: str) -> list[str]:
    """Its lines. Raises ValueError when there is none of that name."""
    path = LADDER / name
    if not path.is_file():
        raise ValueError(f"there is no program {name} in examples/ladder")
    return path.read_text().rstrip().splitlines()


def _beginning(lines: list[str]) -> int:
    """Where the code begins, after the text that says what it does."""
    if not lines[0].startswith('"""'):
        return 0
    return 1 if lines[0].endswith('."""') else lines.index('"""', 1) + 1


def new_lines(lines: list[str], before: list[str]) -> set[int]:
    """Which lines, counted from 0, are not in the program before. How far in one is, and the text
    at the head of the program, do not matter."""
    first = _beginning(lines)
    code = [line.strip() for line in lines[first:]]
    old = [line.strip() for line in before[_beginning(before) :]]
    matcher = difflib.SequenceMatcher(None, old, code, autojunk=False)
    return {
        first + number
        for tag, _, _, begin, end in matcher.get_opcodes()
        if tag in ("insert", "replace")
        for number in range(begin, end)
        if code[number]
    }


def piece(lines: list[str], begin: str | None, end: str | None) -> range:
    """The lines from the one with `begin` to the one with `end`; see above. Raises ValueError when
    there is none."""
    if begin is None:
        return range(len(lines))
    code = range(_beginning(lines), len(lines))
    first = next((n for n in code if begin in lines[n]), None)
    if first is None:
        raise ValueError(f"no line of the program has {begin!r}")
    if end is not None:
        last = next((n for n in range(first, len(lines)) if end in lines[n]), None)
        if last is None:
            raise ValueError(f"no line after it has {end!r}")
        return range(first, last + 1)
    last = first
    inset = len(lines[first]) - len(lines[first].lstrip())
    for n in range(first + 1, len(lines)):
        if lines[n].strip() and len(lines[n]) - len(lines[n].lstrip()) <= inset:
            break
        if lines[n].strip():
            last = n
    return range(first, last + 1)


def rung_of(name: str) -> str:
    """S5, for s05_nonblocking_accept.py; the name itself where it has no number."""
    number = re.match(r"s(\d+)_", name)
    return f"S{int(number[1])}" if number else name


def shown(name: str, since: str | None, begin: str | None = None, end: str | None = None) -> Any:
    """What stands in the page for a program."""
    lines = program(name)
    part = piece(lines, begin, end)
    text = [lines[n] for n in part]
    inset = min((len(line) - len(line.lstrip()) for line in text if line.strip()), default=0)
    node = nodes.literal_block("", "\n".join(line[inset:] for line in text), language="python")
    new = new_lines(lines, program(since)) if since else set()
    node["highlight_args"] = {"hl_lines": [n - part.start + 1 for n in part if n in new]}
    return node


class Rung(SphinxDirective):
    """``rung``: see this module's docstring."""

    required_arguments = 1
    option_spec: ClassVar = dict.fromkeys(("since", "from", "to"), directives.unchanged)

    def run(self) -> list[nodes.Node]:
        name, since = self.arguments[0], self.options.get("since")
        begin = self.options.get("from")
        self.env.note_dependency(str(LADDER / name))
        try:
            found: list[nodes.Node] = [shown(name, since, begin, self.options.get("to"))]
        except ValueError as error:
            raise self.error(str(error)) from None
        if since and begin is None:
            same = rung_of(since) == rung_of(name)
            than = f"the program of {rung_of(since)}" if not same else since
            text = f"Marked: what is new since {than}."
            found.append(nodes.paragraph("", text, classes=["marked"]))
        return found


class Exercise(SphinxDirective):
    """``exercise``: see this module's docstring."""

    required_arguments = 1
    option_spec: ClassVar = {"since": directives.unchanged}
    has_content = True

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        lines = list(self.content)
        if _BETWEEN not in lines:
            raise self.error(f"the exercise {name} has no answer: {_BETWEEN} comes before it")
        between = lines.index(_BETWEEN)
        number = self.env.temp_data["exercises"] = self.env.temp_data.get("exercises", 0) + 1
        question, answer = nodes.container(classes=["exercise"]), nodes.container()
        self.state.nested_parse(self.content[:between], self.content_offset, question)
        self.state.nested_parse(
            self.content[between + 1 :], self.content_offset + between + 1, answer
        )
        if question.children and isinstance(question[0], nodes.paragraph):
            question[0].insert(0, nodes.strong("", f"{number}. "))
        path = f"answers/{name}.py"
        if (LADDER / path).exists():
            self.env.note_dependency(str(LADDER / path))
            try:
                answer += shown(path, self.options.get("since"))
            except ValueError as error:
                raise self.error(str(error)) from None
            where = nodes.paragraph("", "The program: ", classes=["marked"])
            where += nodes.literal("", f"examples/ladder/{path}")
            answer += where
        question += [
            nodes.raw("", "<details><summary>Answer</summary>", format="html"),
            answer,
            nodes.raw("", "</details>", format="html"),
        ]
        return [question]


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("rung", Rung)
    app.add_directive("exercise", Exercise)
    return {"parallel_read_safe": True}
