"""The names of options on the command line and in the environment; ``docs/options.md``."""

from __future__ import annotations

from anysock.options.serve import DEFAULTS, OPTIONS
from anysock.options.values import flag


def switches(name: str) -> str:
    """`flag`; for a switch that may be on by default, followed by the flag that turns it off."""
    may_be_on = OPTIONS[name].switch and DEFAULTS[name] is not False
    return f"{flag(name)}/--no-{flag(name)[2:]}" if may_be_on else flag(name)


def variable(name: str) -> str:
    """The environment variable of the option: ``drain_timeout`` is ``ANYSOCK_DRAIN_TIMEOUT``.
    Empty if it has none."""
    return "ANYSOCK_" + name.upper() if OPTIONS[name].environment else ""


def default_text(name: str) -> str:
    """The default as text for the command line; empty if the option has none."""
    default, spec = DEFAULTS[name], OPTIONS[name]
    if default is None or default == () or spec.switch:
        return ""
    return " ".join(default) if spec.many else spec.format(default)


def reference() -> str:
    """``docs/options.md``: the table of all options, in Markdown."""
    rows = [
        "# Options of `anysock serve`",
        "",
        "Made from the declarations in `src/anysock/options/serve.py` by `make docs/options.md`.",
        "Durations take `us`, `ms`, `s`, `m`, `h`: `500ms`; a bare number is seconds.",
        "Sizes take `B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`: `64KiB`; a bare number is bytes.",
    ]
    for name, spec in OPTIONS.items():
        if spec.group:
            rows += [
                "",
                f"## {spec.group}",
                "",
                "| command line | environment | keyword | default | meaning |",
                "|---|---|---|---|---|",
            ]
        flags = ", ".join(f"`{each}`" for each in (spec.short, switches(name)) if each)
        value = f" {spec.metavar}" if spec.metavar else ""
        default = f"`{default_text(name)}`" if default_text(name) else ""
        meaning = spec.help.replace("|", "\\|") + (" Repeatable." if spec.many else "")
        environment = f"`{variable(name)}`" if variable(name) else ""
        rows.append(f"| {flags}{value} | {environment} | `{name}` | {default} | {meaning} |")
    return "\n".join(rows) + "\n"
