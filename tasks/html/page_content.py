"""Main content detection: which blocks of a page are its main text.

In short: furniture is dropped box by box (by name, by share of links, as teasers of other pages); then the walk goes down
from the page as long as one child holds most of what is left; then short lines are trimmed off both ends. The shares were
set on half of the pages of the article extraction benchmark and checked on the other half: small changes to any of them
change the score of neither by a hundredth.
"""

from collections import defaultdict
from typing import Final

from tasks.html.page_blocks import CELLS, HEADINGS, Block, Boxes, Outline

MOST: Final = 0.7  # of its parent's prose: the walk goes down into such a box
LINKED_SHARE: Final = 0.5  # of its text: a box above it is a list of links
UNWANTED_SHARE: Final = 0.4  # of the page's text: a box with more is no furniture, whatever its name
COMMENTS_SHARE: Final = 0.9  # of the page's prose: comments with more are what the page is about
SHORT_BYTES: Final = 20  # of a block say nothing: bylines, dates, captions
SENTENCE_BYTES: Final = 20  # a block with a full stop and as much is prose
PROSE_BYTES: Final = 80  # a block of as much is prose
LEAD_BYTES: Final = 140  # of prose between the headline and the main box belong to the article
TEASER_BYTES: Final = 400  # a box of less under a linked heading points to another page
TEASER_BLOCKS: Final = 3  # or fewer, the heading among them

WHOLE: Final = frozenset(("p", "pre", "blockquote", "ul", "ol")) | HEADINGS  # never the box of all the main text
# Not judged by their own share of links.
KEPT_WITH_PARENT: Final = frozenset("td th tr tbody thead tfoot li dt dd".split()) | HEADINGS
LINES: Final = CELLS | {"pre", "li"}  # short by nature, and alike
ENDINGS: Final = tuple(".!?:;。！？：；…”\"')")


def content(page: Outline, by_name: bool) -> list[Block]:
    """The blocks of main text, in document order; none when the page holds no prose."""
    keeps = kept_boxes(page, by_name)
    root = main_box(page, keeps)
    inside = below(page.boxes, root, keeps)
    blocks = [*lead(page, root, keeps), *[block for block in page.blocks if inside[block.box]]]
    return trimmed(first_said(blocks, page.boxes), page, not by_name)


def sums(boxes: Boxes, amounts: list[int]) -> list[int]:
    """Each box's amount with those of the boxes inside it."""
    totals = amounts.copy()
    for box in range(len(totals) - 1, 0, -1):
        totals[boxes.parent[box]] += totals[box]
    return totals


def kept_boxes(page: Outline, by_name: bool) -> list[bool]:
    """Whether each box, looked at alone, may hold main text."""
    boxes = page.boxes
    count = len(boxes.tag)
    plain, linked = [0] * count, [0] * count
    for block in page.blocks:
        plain[block.box] += block.plain
        linked[block.box] += block.linked
    whole = sums(boxes, plain)
    keeps = [True] * count
    for box in teasers(page, whole, sums(boxes, linked)):
        keeps[box] = False
    if by_name:
        for box in furniture(boxes, whole):
            keeps[box] = False
    of_data = {boxes.parent[box] for box in range(count) if boxes.tag[box] == "thead"}
    for box in range(count - 1, 0, -1):
        if not keeps[box]:
            continue
        is_judged = boxes.tag[box] not in KEPT_WITH_PARENT and box not in of_data
        if is_judged and linked[box] > LINKED_SHARE * (plain[box] + linked[box]):
            keeps[box] = False
            continue
        plain[boxes.parent[box]] += plain[box]
        linked[boxes.parent[box]] += linked[box]
    return keeps


def teasers(page: Outline, plain: list[int], linked: list[int]) -> set[int]:
    """Boxes of little text under a heading that is one link: with hardly more than that, or two or more side by side."""
    boxes = page.boxes
    blocks = [0] * len(boxes.tag)
    for block in page.blocks:
        blocks[block.box] += 1
    blocks = sums(boxes, blocks)
    found: defaultdict[int, set[int]] = defaultdict(set)
    for box, tag in enumerate(boxes.tag):
        if tag in HEADINGS and linked[box] > 9 * plain[box] and plain[boxes.parent[box]] < TEASER_BYTES:
            teaser = boxes.parent[box]
            found[boxes.parent[teaser]].add(teaser)
    groups = found.values()
    return {box for group in groups for box in group if len(group) > 1 or blocks[box] <= TEASER_BLOCKS}


def furniture(boxes: Boxes, plain: list[int]) -> set[int]:
    """Boxes that are not content by their tag or their names, unless the page is little else."""
    found: set[int] = set()
    comments: list[int] = []
    count = len(boxes.tag)
    in_article, in_comments = [False] * count, [False] * count
    for box in range(1, count):
        tag, parent = boxes.tag[box], boxes.parent[box]
        in_article[box] = in_article[parent] or tag in ("article", "main")
        in_comments[box] = in_comments[parent] or boxes.is_comments[box]
        by_tag = tag in ("aside", "figure", "form") or (tag == "header" and not in_article[box])
        if (by_tag or boxes.is_unwanted[box]) and plain[box] < UNWANTED_SHARE * plain[0]:
            found.add(box)
        if boxes.is_comments[box] and not in_comments[parent]:
            comments.append(box)
    if sum([plain[box] for box in comments]) < COMMENTS_SHARE * plain[0]:
        found.update(comments)
    return found


def prose(block: Block, tag: str) -> int:
    """What a block says for the box that it is in: bytes outside links, less the short and the linked."""
    if tag in HEADINGS:
        return 0
    short = 0 if tag in CELLS or tag == "pre" else SHORT_BYTES
    return max(block.plain - 2 * block.linked - short, 0)


def main_box(page: Outline, keeps: list[bool]) -> int:
    """Down from the page, as long as one child holds most of what its parent holds."""
    boxes = page.boxes
    weight = [0] * len(boxes.tag)
    for block in page.blocks:
        weight[block.box] += prose(block, boxes.tag[block.box])
    children: list[list[int]] = [[] for _ in boxes.tag]
    for box in range(len(boxes.tag) - 1, 0, -1):
        if keeps[box]:
            weight[boxes.parent[box]] += weight[box]
            children[boxes.parent[box]].append(box)
    best = 0
    while children[best]:
        child = max(children[best], key=weight.__getitem__)
        is_most = weight[child] > 0 and weight[child] >= MOST * weight[best]
        if not is_most or boxes.tag[child] in WHOLE or not children[child]:
            break
        best = child
    return best


def below(boxes: Boxes, root: int, keeps: list[bool]) -> list[bool]:
    """Whether each box is `root` or a kept one inside it."""
    inside = [False] * len(boxes.tag)
    inside[root] = True
    for box in range(root + 1, len(inside)):
        inside[box] = inside[boxes.parent[box]] and keeps[box]
    return inside


def lead(page: Outline, root: int, keeps: list[bool]) -> list[Block]:
    """Prose between the headline and the main box: what an article begins with, above its pictures."""
    inside = below(page.boxes, 0, keeps)
    found: list[Block] = []
    is_under_headline = False
    for block in page.blocks:
        if block.box >= root:
            break
        tag = page.boxes.tag[block.box]
        if tag == "h1":
            is_under_headline = True
        elif is_under_headline and inside[block.box] and tag not in HEADINGS and is_long_prose(block):
            found.append(block)
    return found


def is_long_prose(block: Block) -> bool:
    """Whole sentences with few links."""
    return block.plain >= LEAD_BYTES and block.plain > 5 * block.linked and block.text.endswith(ENDINGS)


def first_said(blocks: list[Block], boxes: Boxes) -> list[Block]:
    """Without paragraphs that stood before in another box: captions of a gallery, a second copy for small screens."""
    said: dict[str, int] = {}
    kept: list[Block] = []
    for block in blocks:
        parent = boxes.parent[block.box]
        is_paragraph = block.plain >= PROSE_BYTES and boxes.tag[block.box] not in LINES
        if not is_paragraph or said.setdefault(block.text, parent) == parent:
            kept.append(block)
    return kept


def trimmed(blocks: list[Block], page: Outline, is_lenient: bool) -> list[Block]:
    """Blocks from the first prose to the last, and the headings over the first; not the title again, no empty sections."""
    tags = page.boxes.tag
    solid = [n for n, block in enumerate(blocks) if is_prose(block, tags[block.box], is_lenient)]
    if not solid:
        return []
    heads = [block for block in blocks[: solid[0]] if tags[block.box] in HEADINGS and block.text not in page.title]
    kept: list[Block] = []
    under = "h0"  # tag of the block after this one, when that is a heading
    for block in reversed(heads + blocks[solid[0] : solid[-1] + 1]):
        tag = tags[block.box]
        if tag not in HEADINGS or tag < under or under == "h0" or is_lenient:
            kept.append(block)
            under = tag if tag in HEADINGS else "h0"
    return kept[::-1]


def is_prose(block: Block, tag: str, is_lenient: bool) -> bool:
    """Whether main text may begin or end with the block."""
    if block.plain <= block.linked or block.text.startswith("©"):
        return False
    if tag in HEADINGS:
        return is_lenient and is_long_prose(block)  # some pages say all they say in headings
    if tag in LINES or is_lenient:
        return True
    return block.plain >= PROSE_BYTES or (block.plain >= SENTENCE_BYTES and block.text.endswith(ENDINGS))
