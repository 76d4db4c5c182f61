"""Remote sources: files behind addresses, read within bounded time, and what their services answer as messages."""

import io
import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO, cast

from model.data.remote_files import open_remote, said, service_faults
from tasks.errors import UserError

logger = logging.getLogger("wordmill")

TELL_SECONDS = 10.0  # without an answer, until that is told
S3_SECRETS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, for a store of your own AWS_ENDPOINT_URL"
SECRETS = {"s3": S3_SECRETS, "s3a": S3_SECRETS, "hf": "HF_TOKEN"}  # where the services that ask for any look for them


def read_remote(url: str) -> BinaryIO:
    """The bytes behind an address; a fault of the service while they are read is a message too."""
    files, path = open_remote(url)
    return cast(BinaryIO, _Told(cast(BinaryIO, files.open(path, "rb")), url))


class _Told(io.RawIOBase):
    """A remote file whose every read is within `answering`."""

    def __init__(self, stored: BinaryIO, url: str) -> None:
        self._stored, self._url = stored, url

    def read(self, size: int = -1, /) -> bytes:
        with answering("", self._url):
            return self._stored.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stored.seek(offset, whence)

    def tell(self) -> int:
        return self._stored.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stored.seekable()

    def close(self) -> None:
        self._stored.close()
        super().close()


@contextmanager
def answering(place: str, url: str) -> Generator[None]:
    """While open, a long silence of the service behind `url` is told; UserError for what it answers in place of the file."""
    waiting = threading.Timer(TELL_SECONDS, logger.warning, ("%s: no answer yet; still waiting, for a minute or two at most", url))
    waiting.daemon = True
    waiting.start()
    prefix = f"{place}: " if place else ""
    try:
        yield
    except (ImportError, ValueError, NotImplementedError) as error:
        raise UserError(f"{prefix}{url}: {error}. Fix: correct the address, or install the package that reads this kind of it.") from error
    except FileNotFoundError as error:
        raise UserError(f"{prefix}{url}: not found. Fix: check the address, and the network.") from error
    except Exception as error:
        if not isinstance(error, (OSError, *service_faults())):
            raise
        what = f"{said(error)}: may not be read" if isinstance(error, PermissionError) else said(error)
        raise UserError(f"{prefix}{url}: {what}. {_fix(url)}") from error
    finally:
        waiting.cancel()


def _fix(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme in ("http", "https"):
        return "Fix: check the address and the network, or try again later; what lies behind a password is to be fetched first."
    asked = f" ({SECRETS[scheme]})" if scheme in SECRETS else ""
    return f"Fix: check the address, the network and the credentials{asked}."
