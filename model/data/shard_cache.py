"""Shard cache: a local folder of bounded size for shards in object storage; the least recently used files go.

Any number of processes may share one folder. There is no lock: a file is written under a name of its own and renamed, and
whoever has a file open keeps it, even when it is given up meanwhile.
"""

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

COPY_BYTES = 8 * 2**20
TAIL_BYTES = 64 * 2**10  # holds the footer of most files


def is_url(path: str) -> bool:
    """Whether a path is an fsspec URL, such as s3://bucket/name."""
    return "://" in path


def read_tail(url: str) -> bytes:
    """The end of a Parquet file, with its whole footer. ValueError when there is no such file."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
        tail = bytes(system.cat_file(path, start=-min(TAIL_BYTES, int(system.size(path)))))
        needed = int.from_bytes(tail[-8:-4], "little") + 8
        return tail if needed <= len(tail) else bytes(system.cat_file(path, start=-min(needed, int(system.size(path)))))
    except FileNotFoundError as error:
        raise ValueError(f"{url}: not found; correct the address, or write the shards again") from error


@dataclass(frozen=True)
class ShardCache:
    """Local copies in `folder`, together at most `most_bytes`."""

    folder: Path
    most_bytes: int

    def fetch(self, url: str) -> Path:
        """The local copy, fetched if need be. Raises ValueError for a missing file, or one larger than the cache."""
        local = self.folder / (hashlib.sha256(url.encode()).hexdigest()[:24] + Path(url).suffix)
        with suppress(FileNotFoundError):
            os.utime(local)  # its time is when it was last used
            return local
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f"{local.name}.{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self._download(url, temporary)
            temporary.rename(local)
        finally:
            temporary.unlink(missing_ok=True)
        return local

    def open(self, url: str) -> BinaryIO:
        """The local copy, open for reading."""
        while True:
            with suppress(FileNotFoundError):  # another process gave it up since
                return self.fetch(url).open("rb")

    def _download(self, url: str, target: Path) -> None:
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(url)
            size = int(system.size(path))
            self._make_room(url, size)
            with system.open(path, "rb") as source, target.open("wb") as file:
                while block := source.read(COPY_BYTES):
                    file.write(block)
        except FileNotFoundError as error:
            raise ValueError(f"{url}: not found; correct the address, or write the shards again") from error
        if target.stat().st_size != size:
            raise ValueError(f"{url}: {target.stat().st_size} bytes came, expected {size}; try again")

    def _make_room(self, url: str, size: int) -> None:
        if size > self.most_bytes:
            raise ValueError(f"{url}: {size} bytes, more than the whole cache of {self.most_bytes}; allow it more")
        kept: list[tuple[float, int, Path]] = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                kept.append((stat.st_mtime, stat.st_size, path))
        total = sum(held for _, held, _ in kept)
        for _, freed, path in sorted(kept):
            if total + size <= self.most_bytes:
                break
            if path.suffix != ".tmp":
                path.unlink(missing_ok=True)
                total -= freed
