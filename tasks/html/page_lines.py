"""HTML lines: the blocks of a page as lines of text."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from tasks.html.page_blocks import CELLS, Block, Boxes

CELL_BYTES: Final = 400  # a row with a longer cell, or with two blocks in one, is there for the layout


class Surroundings:
    """For each box the nearest box around it (or itself) of a kind, 0 for none."""

    def __init__(self, boxes: Boxes) -> None:
        count = len(boxes.tag)
        self.item, self.preformatted, self.row, self.cell = [0] * count, [0] * count, [0] * count, [0] * count
        self.table, self.outer_list, self.lists = [0] * count, [0] * count, [0] * count  # lists: how many are open
        nearest = {"li": self.item, "pre": self.preformatted, "tr": self.row, "table": self.table}
        nearest |= dict.fromkeys(CELLS, self.cell)
        inherited = (self.item, self.preformatted, self.row, self.cell, self.table, self.outer_list, self.lists)
        for box in range(1, count):
            for column in inherited:
                column[box] = column[boxes.parent[box]]
            tag = boxes.tag[box]
            if tag in nearest:
                nearest[tag][box] = box
            if tag in ("ul", "ol", "dl"):
                self.lists[box] += 1
                self.outer_list[box] = self.outer_list[box] or box


def written(blocks: Sequence[Block], boxes: Boxes) -> str:
    """A blank line between paragraphs; "- " before a list item, two blanks before it for each list around; cells " | "."""
    around = Surroundings(boxes)
    text: list[str] = []
    previous = item = 0
    for row, grouped in groupby(blocks, key=lambda block: around.row[block.box]):
        run = list(grouped)
        if row and is_row(run, around):
            line = " | ".join([" ".join(block.text.split()) for block in run]).strip(" |")
            previous = joined(text, line, around.table[row], previous) if line else previous
            continue
        for block in run:
            if not block.text:
                continue
            box = block.box
            line = block.text
            if around.item[box] and around.item[box] != item and not around.preformatted[box]:
                item = around.item[box]
                line = f"{'  ' * max(around.lists[box] - 1, 0)}- {line}"
            previous = joined(text, line, around.preformatted[box] or around.outer_list[box], previous)
    return "".join(text)


def joined(text: list[str], line: str, group: int, previous: int) -> int:
    """Adds the line, close to the last one when both are of one list, table or <pre>; returns `group`."""
    if text:
        text.append("\n" if group and group == previous else "\n\n")
    text.append(line)
    return group


def is_row(run: Sequence[Block], around: Surroundings) -> bool:
    """A row of data: two cells or more, each one short block."""
    cells = {around.cell[block.box] for block in run}
    return len(run) > 1 and len(cells) == len(run) and all(block.plain + block.linked <= CELL_BYTES for block in run)
