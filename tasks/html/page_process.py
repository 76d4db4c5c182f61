"""HTML worker: the child of a `PageReader`; pages in through standard input, answers out through standard output, batch by batch.

    python -m tasks.html.page_process SECONDS MAX_DEPTH PARENT

It ends when its input does or when its parent is gone, and the kernel ends it when a page takes SECONDS of processor time,
even inside the parser.
"""

import os
import resource
import select
import signal
import sys
from typing import Final

from tasks.html.page import LENGTH, PIPE_BYTES, encoded
from tasks.html.page_text import Page, PageFault, read_page

MEMORY_BYTES: Final = 4 * 2**30  # of address space; the densest markup takes 200 bytes for each of its own
ORPHAN_SECONDS: Final = 5.0  # between looks whether the parent is still there


def main() -> None:
    """Answers pages until there are no more."""
    seconds, max_depth, parent = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it goes to the parent too, which then ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # others count what is only reserved, or refuse
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES if hard < 0 else min(MEMORY_BYTES, hard), hard))
    sent(b"")  # ready
    while (batch := next_batch(parent)) is not None:
        answers: list[Page | PageFault] = []
        for page in batch:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            answers.append(read_page(page, max_depth))
            signal.setitimer(signal.ITIMER_PROF, 0)
        sent(encoded(answers))


def next_batch(parent: int) -> list[bytes] | None:
    """The pages of one message; None when there are no more, or nobody to answer."""
    pages: list[bytes] = []
    head = taken(LENGTH.size, parent)
    for _ in range(LENGTH.unpack(head)[0] if head is not None else 0):
        size = taken(LENGTH.size, parent)
        page = taken(LENGTH.unpack(size)[0], parent) if size is not None else None
        if page is None:
            return None
        pages.append(page)
    return pages or None


def taken(count: int, parent: int) -> bytes | None:
    """So many bytes of standard input. A pipe that other children hold open does not end with the parent."""
    parts: list[bytes] = []
    pipe = sys.stdin.fileno()
    while count:
        while not select.select([pipe], [], [], ORPHAN_SECONDS)[0]:
            if os.getppid() != parent:
                return None
        part = os.read(pipe, min(PIPE_BYTES, count))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def sent(message: bytes) -> None:
    """One message to standard output."""
    sys.stdout.buffer.write(LENGTH.pack(len(message)) + message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
