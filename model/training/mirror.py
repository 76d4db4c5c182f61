"""Mirror: whole checkpoints copied to a second place, a folder or object storage, from where a machine without its disk goes on.

URL/step-00000100/ holds the files of the checkpoint, its manifest written last and deleted first, so that one with a manifest is whole.
left_out.json lies beside them, as it does beside the checkpoints.
"""

import logging
import re
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from model.data.remote_files import open_remote, said, service_faults
from model.data.shard_cache import is_url
from model.training.checkpoint import MANIFEST, UNFINISHED, checkpoint_path, find_damage, newest_checkpoint
from model.training.left_out import LEFT_OUT

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

STEP = re.compile(r"step-(\d{8,})$")

logger = logging.getLogger(__name__)


class Mirror:
    """The checkpoints of one training in a second place. One process at a time uses it.

    Every method raises OSError with the address where the place does not answer, or not as it should. Nothing is tried again here:
    the libraries below ask a few times, within a minute or two, and a checkpoint that was not copied is followed by another.
    """

    _files: "AbstractFileSystem"
    _path: str  # of the place in it

    def __init__(self, url: str) -> None:
        """`url`: the folder of this training alone, as a path or an address that fsspec knows; it need not be there yet."""
        self.url = url.rstrip("/")

    def put(self, path: Path) -> None:
        """Copies a whole checkpoint, unless it is there already, and left_out.json beside it."""
        manifest = (path / MANIFEST).read_bytes()
        with self._answering(path.name):
            self._write_left_out(path.parent)
            if self._manifest(path.name) == manifest:
                return
            self._delete(path.name)
            others = [file for file in sorted(path.iterdir()) if file.name != MANIFEST]
            for file in (*others, path / MANIFEST):
                self._put(file, f"{path.name}/{file.name}")

    def steps(self) -> list[int]:
        """Those of the checkpoints that lie here whole, in order."""
        with self._answering(""):
            return sorted(step for step, name in self._folders() if self._files.exists(f"{self._path}/{name}/{MANIFEST}"))

    def newest(self) -> int | None:
        """The last of `steps`."""
        return max(self.steps(), default=None)

    def fetch(self, step: int, folder: Path) -> Path:
        """Copies a checkpoint into `folder`, where it gets its name once it is whole; left_out.json too, if there is none.

        Raises OSError where what came is damaged.
        """
        target = checkpoint_path(folder, step)
        work = folder / f"{UNFINISHED}{target.name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            with self._answering(target.name):
                for name in self._names(target.name):
                    self._files.get_file(f"{self._path}/{target.name}/{name}", str(work / name))
                if not (folder / LEFT_OUT).exists() and self._files.exists(f"{self._path}/{LEFT_OUT}"):
                    (folder / LEFT_OUT).write_bytes(self._read(LEFT_OUT))
            damage = find_damage(work)
            if damage is not None:
                raise OSError(f"{self.url}/{target.name}: {damage}")
            shutil.rmtree(target, ignore_errors=True)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return target

    def keep(self, steps: Collection[int]) -> None:
        """Deletes every checkpoint but those of `steps`, also what an interrupted copy left."""
        with self._answering(""):
            for step, name in self._folders():
                if step not in steps:
                    self._delete(name)

    def _folders(self) -> list[tuple[int, str]]:
        names = self._names("")
        return [(int(found[1]), name) for name in names if (found := STEP.match(name))]

    def _names(self, folder: str) -> list[str]:
        """What lies in a folder of this place; nothing where it is not there."""
        self._files.invalidate_cache()  # another process may have written since
        try:
            found: list[str] = self._files.ls(f"{self._path}/{folder}".rstrip("/"), detail=False)
        except FileNotFoundError:
            return []
        return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)

    def _manifest(self, name: str) -> bytes | None:
        try:
            return self._read(f"{name}/{MANIFEST}")
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes:
        return cast(bytes, self._files.cat_file(f"{self._path}/{name}"))

    def _delete(self, name: str) -> None:
        """The manifest first: what is left by an interruption does not count as a checkpoint."""
        names = self._names(name)
        for file in (*(file for file in names if file == MANIFEST), *(file for file in names if file != MANIFEST)):
            self._files.rm_file(f"{self._path}/{name}/{file}")
        if names and not is_url(self.url):
            self._files.rmdir(f"{self._path}/{name}")

    def _write_left_out(self, folder: Path) -> None:
        if (folder / LEFT_OUT).exists():
            self._put(folder / LEFT_OUT, LEFT_OUT)

    def _put(self, path: Path, name: str) -> None:
        target = f"{self._path}/{name}"
        if not is_url(self.url):
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        self._files.put_file(str(path), target)

    @contextmanager
    def _answering(self, name: str) -> Generator[None]:
        """While open, the place is; what it says in place of an answer is an OSError with the address."""
        address = f"{self.url}/{name}".rstrip("/")
        try:
            self._files, self._path = open_remote(self.url)
            self._path = self._path.rstrip("/")
            yield
        except (OSError, ImportError, ValueError, NotImplementedError, *service_faults()) as error:
            raise OSError(f"{address}: {said(error)}") from error


def restore(mirror: Mirror, folder: Path) -> Path | None:
    """The newest whole checkpoint of the mirror in `folder`, where that is newer than all that `folder` has; else None.

    One that is damaged is passed over with a warning. Rank 0 alone calls it, before training. Raises OSError as `Mirror` does.
    """
    newest = newest_checkpoint(folder)
    for step in reversed(mirror.steps()):
        if newest is not None and step <= int(newest.name.removeprefix("step-")):
            return None
        try:
            return mirror.fetch(step, folder)
        except OSError as error:
            logger.warning("%s: passed over", error)
    return None
