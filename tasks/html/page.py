"""HTML extraction in a child process that can be killed: what a page can cost is bounded in time and memory."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from tasks.errors import UserError
from tasks.html.page_text import Page, PageFault

LENGTH: Final = struct.Struct("<Q")  # goes before each message between parent and child
READ_BYTES: Final = 2**16  # at a time: an answer is a few thousand
PIPE_BYTES: Final = 2**20  # held by the pipe to the child where the system allows it: fewer turns between the two
KILLS: Final = 3
WALL_SECONDS_PER_SECOND: Final = 10  # the child is stopped by its own processor time; this is for one that sleeps
START_SECONDS: Final = 30  # for the child's imports
BATCH_BYTES: Final = 2**18  # of pages, or BATCH_PAGES of them, are handed over together
BATCH_PAGES: Final = 256


def encoded(answers: Sequence[Page | PageFault]) -> bytes:
    """Answers as they go through the pipe."""
    pages = [[a.title, a.text] if isinstance(a, Page) else [a.reason, a.value, None] for a in answers]
    return json.dumps(pages, ensure_ascii=False).encode()


def decoded(message: bytes) -> list[Page | PageFault]:
    """The answers that `encoded` made the message of."""
    return [Page(a[0], a[1]) if len(a) == 2 else PageFault(a[0], a[1]) for a in json.loads(message)]


def sent(pipe: int, pages: Sequence[bytes], deadline: float) -> bool:
    """Whether the child has taken all the pages, after their number; it reads them all before it answers any."""
    parts = [LENGTH.pack(len(pages)), *(part for page in pages for part in (LENGTH.pack(len(page)), page))]
    for part in parts:
        left = memoryview(part)
        while left:
            wait(pipe, select.POLLOUT, deadline)
            try:
                left = left[os.write(pipe, left) :]
            except BrokenPipeError:
                return False
    return True


def received(pipe: int, deadline: float) -> bytes | None:
    """One message; None when the other end is closed before its end."""
    message = bytearray()
    size = LENGTH.size
    while len(message) < size:
        wait(pipe, select.POLLIN, deadline)
        part = os.read(pipe, min(READ_BYTES, size - len(message)))
        if not part:
            return None
        message += part
        if len(message) == LENGTH.size:
            size = LENGTH.size + LENGTH.unpack_from(message)[0]
    return bytes(message[LENGTH.size :])


def wait(pipe: int, event: int, deadline: float) -> None:
    """Until the pipe is ready or closed."""
    poll = select.poll()
    poll.register(pipe, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


class PageReader:
    """Reads pages in a child process: a page that hangs it, crashes it or eats memory costs that page only.

    A child that somebody kills (the kernel, out of memory) is no page's fault: it is asked again, then UserError.

    `seconds` is processor time of the child for one page, so that a busy machine does not change what is read. One reader
    serves one process and one thread; the child starts with the first page and ends with the reader or its process.
    """

    def __init__(self, seconds: float, max_bytes: int, max_depth: int) -> None:
        self._seconds, self._max_bytes, self._max_depth = seconds, max_bytes, max_depth
        self._child: subprocess.Popen[bytes] | None = None
        self._kills = 0  # in a row

    def __enter__(self) -> "PageReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stop()

    @property
    def child(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._child.pid if self._child is not None else None

    def read(self, html: str) -> Page | PageFault:
        """The page's main text, or why there is none."""
        return self.read_all([html])[0]

    def read_all(self, pages: Iterable[str]) -> list[Page | PageFault]:
        """What `read` says of each page, in order. Faster: the child does not wait between the pages of a batch."""
        answers: dict[int, Page | PageFault] = {}
        batch: dict[int, bytes] = {}
        held = 0
        for number, html in enumerate(pages):
            page = html.encode("utf-8", "ignore")
            if len(page) > self._max_bytes:
                answers[number] = PageFault("html_too_large", len(page))
                continue
            batch[number] = page
            held += len(page)
            if held >= BATCH_BYTES or len(batch) == BATCH_PAGES:
                answers |= self._answered(batch)
                batch, held = {}, 0
        answers |= self._answered(batch)
        return [answers[number] for number in sorted(answers)]

    def _answered(self, batch: dict[int, bytes]) -> dict[int, Page | PageFault]:
        """An answer to each page: when the batch ends the child, one page at a time shows which does."""
        if not batch:
            return {}
        answers = self._asked(list(batch.values()))
        if isinstance(answers, PageFault):
            answers = [answers] if len(batch) == 1 else [self._alone(page) for page in batch.values()]
        return dict(zip(batch, answers, strict=True))

    def _alone(self, page: bytes) -> Page | PageFault:
        """A batch of one page."""
        answers = self._asked([page])
        return answers if isinstance(answers, PageFault) else answers[0]

    def _asked(self, pages: Sequence[bytes]) -> list[Page | PageFault] | PageFault:
        """An answer to each page, or how they ended the child."""
        message = None
        is_late = False
        try:
            message = received(self._given(pages), self._deadline(len(pages)))
        except TimeoutError:
            is_late = True
        finally:
            code = 0 if message is not None else self._stop()  # after an interrupt too: no page gets another's answer
        if code == -signal.SIGKILL and not is_late:
            self._note_kill()
            return self._asked(pages)
        self._kills = 0
        if message is not None:
            return decoded(message)
        is_slow = is_late or code == -signal.SIGPROF
        return PageFault("html_too_slow", self._seconds) if is_slow else PageFault("html_broken", 0)

    def _note_kill(self) -> None:
        """UserError when the child was killed so often that it will be again."""
        self._kills += 1
        if self._kills == KILLS:
            raise UserError(
                f"the process that reads HTML was killed {KILLS} times in a row, as the kernel does when memory runs out. "
                "Nothing is left out for that. Fix: fewer files.workers, or more memory, then run again."
            )

    def _given(self, pages: Sequence[bytes]) -> int:
        """The pipe that the answers to the pages will come from. No page is to blame for a child that died idle."""
        child = self._child or self._started()
        assert child.stdin is not None
        if not sent(child.stdin.fileno(), pages, self._deadline(1)):
            self._stop()
            child = self._started()
            assert child.stdin is not None
            if not sent(child.stdin.fileno(), pages, self._deadline(1)):
                raise RuntimeError(f"the process that reads HTML ended with {self._stop()} before it took a page")
        assert child.stdout is not None
        return child.stdout.fileno()

    def _deadline(self, pages: int) -> float:
        return time.monotonic() + pages * WALL_SECONDS_PER_SECOND * self._seconds

    def _started(self) -> subprocess.Popen[bytes]:
        """A child that has said it is ready, so that its start does not count as a page's time."""
        root = str(Path(__file__).parents[2])
        limits = [str(self._seconds), str(self._max_depth), str(os.getpid())]
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tasks.html.page_process", *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        os.set_blocking(self._child.stdin.fileno(), False)
        os.set_blocking(self._child.stdout.fileno(), False)
        if sys.platform == "linux":
            with suppress(OSError):  # above the system's limit for one user: the pipe stays small
                fcntl.fcntl(self._child.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        ready = received(self._child.stdout.fileno(), time.monotonic() + START_SECONDS)
        if ready is not None:
            return self._child
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(1)  # so that the code is its own
        code = self._stop()
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the process that reads HTML ended with {code} before its first page")
        self._note_kill()
        return self._started()

    def _stop(self) -> int:
        """The child's exit code; 0 when there was none."""
        child, self._child = self._child, None
        if child is None:
            return 0
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
        return child.wait()
