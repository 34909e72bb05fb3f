"""What others have written, as it may be shown: on one line, and without a word to the terminal."""

from __future__ import annotations

from typing import Any


def printable(text: str, keep: str = "") -> str:
    r"""`text`, with a backslash escape for each character that would not be seen as itself.

    That are control characters (of ASCII and of ISO 6429's C1), line ends of every kind, those
    that only format (such as the bidirectional ones of Unicode TR36), unassigned ones, and lone
    surrogates, which no valid UTF-8 and no JSON (RFC 8259, section 8.2) can carry. Those in `keep`
    are left as they are. What is escaped already stays so.

    >>> printable("\0x\nerror: all is lost\x1b[31m")
    '\\x00x\\nerror: all is lost\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(
        each if each in keep or each.isprintable() else each.encode("unicode_escape").decode()
        for each in text
    )


def printable_values(value: Any) -> Any:
    """`value`, made of what JSON can carry, with all texts in it `printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): printable_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [printable_values(each) for each in value]
    return value if isinstance(value, int | float | None) else printable(str(value))
