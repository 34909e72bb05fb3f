"""Directives for Sphinx: the map of the house, drawn from its imports, and the list of its rooms.

    ```{house-map}
    ```

    ```{house-rooms}
    ```

A room is a folder or a file of ``src/anysock``. It stands one floor above the highest room that it
imports. An arrow is an import; an arrow that follows from others is left out, so that the map stays
readable (the transitive reduction). `make docs/_static/house.svg` draws the map as a file.
"""

from __future__ import annotations

import ast
import functools
import html
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.house import SOURCE, files_of, room_of, rooms_imported  # noqa: E402

# All in the units of the picture, which is as wide as a page on a phone.
_WIDTH, _MARGIN, _GAP, _LANE = 440, 4, 10, 12
_BETWEEN, _NAME, _LINE, _PADDING = 26, 17, 13, 6
_MAX_BOX, _MAX_LINES, _LETTER = 290, 5, 5.9

# In a file of its own, the picture brings its colours along.
_STYLE = """
text { font: 11px system-ui, sans-serif; fill: #57606a; text-anchor: middle; }
.name { font: 600 13px ui-monospace, monospace; fill: #0a58ca; }
rect { fill: #f6f8fa; stroke: #afb8c1; }
path { fill: none; stroke: #8c959f; stroke-width: 1.3; }
.head { fill: #8c959f; stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1; } .name { fill: #79b8ff; }
  rect { fill: #1c2128; stroke: #444c56; } path { stroke: #768390; } .head { fill: #768390; }
}
"""


class House:
    """The rooms of `source`, on their floors, and the arrows that are drawn."""

    def __init__(self, source: Path = SOURCE) -> None:
        self.source = source
        self.imports = rooms_imported(source)

        @functools.cache
        def below(room: str) -> frozenset[str]:
            """All rooms that `room` imports, also by way of others."""
            imported = self.imports[room]
            return frozenset(imported).union(*(below(each) for each in imported))

        @functools.cache
        def floor(room: str) -> int:
            return 1 + max((floor(each) for each in self.imports[room]), default=-1)

        self.floor_of = {room: floor(room) for room in self.imports}
        self.arrows = {
            room: {
                each for each in imported
                if not any(each in below(other) for other in imported - {each})
            }
            for room, imported in self.imports.items()
        }  # fmt: skip

    def docstring(self, room: str) -> str:
        folder = self.source / room
        file = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        return ast.get_docstring(ast.parse(file.read_text())) or ""

    def files(self, room: str) -> list[Path]:
        return [path for path in files_of(self.source) if room_of(path, self.source) == room]

    def figures(self) -> str:
        """How large the house is, in one sentence."""
        files = files_of(self.source)
        lines = sum(len(path.read_text().splitlines()) for path in files)
        imports = sum(map(len, self.imports.values()))
        arrows = sum(map(len, self.arrows.values()))
        return (
            f"{len(self.imports)} rooms on {max(self.floor_of.values()) + 1} floors, with "
            f"{len(files)} files and {lines:,} lines. Of {imports} imports between rooms, the "
            f"{arrows} are drawn from which the others follow."
        )


def shown_name(room: str) -> str:
    """``__init__`` is what a program imports."""
    return "import anysock" if room == "__init__" else room


def _wrapped(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and len(longer) * _LETTER > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _lanes(house: House) -> dict[str, float]:
    """Where arrows run down that pass a floor: one lane for each room that such arrows lead to."""
    passed: dict[str, set[int]] = {}
    for room, imported in house.arrows.items():
        for target in imported:
            between = range(house.floor_of[target] + 1, house.floor_of[room])
            if between:
                passed.setdefault(target, set()).update(between)
    slots: list[set[int]] = []  # the floors on which each is taken
    lanes = {}
    for target, floors in sorted(passed.items(), key=lambda each: (-len(each[1]), each[0])):
        slot = next((n for n, taken in enumerate(slots) if not taken & floors), len(slots))
        if slot == len(slots):
            slots.append(set())
        slots[slot] |= floors
        inset = _MARGIN + _LANE * (slot // 2) + 1
        lanes[target] = float(inset if slot % 2 else _WIDTH - inset)
    return lanes


def _placed(house: House, lanes: dict[str, float]) -> dict[str, tuple[float, float]]:
    """The middle and the width of each room; on a floor, rooms are in the order of what they are
    joined to, so that few arrows cross."""
    floors: list[list[str]] = [[] for _ in range(max(house.floor_of.values()) + 1)]
    for room in sorted(house.imports):
        floors[house.floor_of[room]].append(room)
    edge = _MARGIN + _LANE * ((len(set(lanes.values())) + 1) // 2)
    inside = _WIDTH - 2 * edge
    place: dict[str, tuple[float, float]] = {}

    def put(rooms: list[str]) -> None:
        width = min(_MAX_BOX, (inside - _GAP * (len(rooms) - 1)) / len(rooms))
        left = (_WIDTH - len(rooms) * width - (len(rooms) - 1) * _GAP) / 2
        for number, room in enumerate(rooms):
            place[room] = (left + (number + 0.5) * width + number * _GAP, width)

    def joined(room: str) -> float:
        """Where the rooms stand, on average, that it imports, and that import it."""
        arrows = [(room, each) for each in house.arrows[room]]
        arrows += [(each, room) for each, imported in house.arrows.items() if room in imported]
        at = []
        for above, below in arrows:
            is_long = house.floor_of[above] - house.floor_of[below] > 1
            at.append(lanes[below] if is_long else place[below if above == room else above][0])
        return sum(at) / len(at) if at else _WIDTH / 2

    for rooms in floors:
        put(rooms)
    for _ in range(6):
        for rooms in reversed(floors):
            put(sorted(rooms, key=lambda each: (joined(each), each)))
            rooms.sort(key=lambda each: place[each][0])
    return place


def _purpose(docstring: str, width: float) -> list[str]:
    """The first sentence, in lines of `width`; only its beginning where that takes too many."""
    sentence = re.split(r"\.( |\n|$)", docstring)[0].replace("`", "")
    lines = _wrapped(sentence, width)
    if len(lines) > _MAX_LINES:
        lines = _wrapped(re.split(r"[:,;]( |\n)", sentence)[0], width)
    return lines


def svg(house: House, *, style: str = "", links: bool = False) -> str:
    """The picture: the highest floor on top. `links` makes each room a link to the list."""
    lanes = _lanes(house)
    place = _placed(house, lanes)
    top_of, bottom_of, boxes = {}, {}, []
    top = _MARGIN
    for floor in reversed(range(max(house.floor_of.values()) + 1)):
        told = {
            room: _purpose(house.docstring(room), place[room][1] - 2 * _PADDING)
            for room in house.imports
            if house.floor_of[room] == floor
        }
        height = _NAME + _LINE * max(map(len, told.values())) + _PADDING
        top_of[floor], bottom_of[floor] = top, top + height
        for room, lines in told.items():
            middle, width = place[room]
            at = f'x="{middle:.0f}"'
            box = (
                f'<rect x="{middle - width / 2:.0f}" y="{top}" width="{width:.0f}" '
                f'height="{height}" rx="5"/>'
                f'<text class="name" {at} y="{top + _NAME - 2}">{shown_name(room)}</text>'
            )
            for number, words in enumerate(lines, 1):
                y = top + _NAME + _LINE * number - 1
                box += f'<text {at} y="{y}">{html.escape(words)}</text>'
            boxes.append(f'<a href="#room-{anchor(room)}">{box}</a>' if links else box)
        top += height + _BETWEEN
    arrows = []
    for room, imported in sorted(house.arrows.items()):
        for target in sorted(imported):
            x1, y1 = place[room][0], bottom_of[house.floor_of[room]]
            x2, y2 = place[target][0], top_of[house.floor_of[target]]
            bend = _BETWEEN // 2
            way = f"M{x1:.0f} {y1}"
            if house.floor_of[room] - house.floor_of[target] > 1:
                lane, turn = lanes[target], y1 + _BETWEEN
                way += f"C{x1:.0f} {y1 + bend} {lane:.0f} {turn - bend} {lane:.0f} {turn}"
                y1, x1 = y2 - _BETWEEN, lane
                way += f"V{y1}"
            way += f"C{x1:.0f} {y1 + bend} {x2:.0f} {y2 - bend} {x2:.0f} {y2 - 5}"
            arrows.append(f'<path d="{way}"/>')
            arrows.append(f'<path class="head" d="M{x2 - 4:.0f} {y2 - 6}h8l-4 6z"/>')
    said = "; ".join(
        f"{shown_name(room)} imports {', '.join(sorted(map(shown_name, imported)))}"
        for room, imported in sorted(house.arrows.items(), key=lambda x: -house.floor_of[x[0]])
        if imported
    )
    box = f'viewBox="0 0 {_WIDTH} {top - _BETWEEN + _MARGIN}"'
    # A file says how wide it would like to be; in a page, the page does.
    wide = f'width="{_WIDTH * 5 // 4}" ' if style else ""
    parts = [f'<svg {box} {wide}role="img" xmlns="http://www.w3.org/2000/svg">']
    parts += [f"<title>{said}</title>", *([f"<style>{style}</style>"] if style else [])]
    return "\n".join([*parts, *arrows, *boxes, "</svg>"])


def anchor(room: str) -> str:
    return "anysock" if room == "__init__" else room.strip("_")


def picture(source: Path = SOURCE) -> str:
    """The map as a file of its own."""
    return svg(House(source), style=_STYLE) + "\n"


def setup(app):
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class HouseMap(SphinxDirective):
        """``house-map``: the picture, and how large the house is."""

        def run(self) -> list[nodes.Node]:
            house = House()
            for path in files_of():
                self.env.note_dependency(str(path))
            drawn = f'<div class="house">{svg(house, links=True)}</div>'
            return [nodes.raw("", drawn, format="html"), nodes.paragraph(text=house.figures())]

    class HouseRooms(SphinxDirective):
        """``house-rooms``: each room with what its docstring says first, and its files."""

        def run(self) -> list[nodes.Node]:
            house = House()
            listed = nodes.definition_list()
            for room in sorted(house.imports, key=lambda each: (-house.floor_of[each], each)):
                says = nodes.paragraph()
                first = house.docstring(room).partition("\n\n")[0]
                for number, words in enumerate(re.split(r"`+([^`]+)`+", first)):
                    says += nodes.literal(text=words) if number % 2 else nodes.Text(words)
                files = [path.relative_to(house.source) for path in house.files(room)]
                names = [str(p.relative_to(room)) if p.parts[0] == room else str(p) for p in files]
                held = nodes.paragraph(text="Files: " if len(files) > 1 else "File: ")
                shown = [name for name in names if not name.endswith("__init__.py")] or names
                for number, name in enumerate(shown):
                    held += nodes.Text(", ") if number else nodes.Text("")
                    held += nodes.literal(text=name)
                term = nodes.term("", "", nodes.literal(text=shown_name(room)))
                term["ids"].append(f"room-{anchor(room)}")
                item = nodes.definition_list_item("", term, nodes.definition("", says, held))
                listed += item
            return [listed]

    app.add_directive("house-map", HouseMap)
    app.add_directive("house-rooms", HouseRooms)
    return {"parallel_read_safe": True}


if __name__ == "__main__":  # the folder of another version's sources may be given
    sys.stdout.write(picture(*map(Path, sys.argv[1:])))
