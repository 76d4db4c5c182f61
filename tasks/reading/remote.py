"""Remote files: addresses that fsspec opens, within bounded time, and what their services answer as messages."""

import io
import logging
import re
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

from tasks.errors import UserError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger("wordmill")

TELL_SECONDS = 10.0  # without an answer, until that is told
ANSWER_SECONDS = 15.0  # for one answer; s3fs asks five times
FAULTS = (  # those of the libraries below fsspec that are no OSError
    ("botocore.exceptions", "BotoCoreError"),
    ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"),
    ("httpx", "HTTPError"),
    ("huggingface_hub.errors", "HfHubHTTPError"),
    ("huggingface_hub.errors", "HFValidationError"),
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("paramiko", "SSHException"),
)
S3_SECRETS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, for a store of your own AWS_ENDPOINT_URL"
SECRETS = {"s3": S3_SECRETS, "s3a": S3_SECRETS, "hf": "HF_TOKEN"}  # where the services that ask for any look for them
HTTP_STATUS = re.compile(r"(\d{3}), message='([^']*)', url=")  # as aiohttp spells an answer


def open_remote(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of an address and the path in it."""
    import fsspec

    options: dict[str, object] = {}
    if url.startswith(("s3://", "s3a://")):
        options = {"config_kwargs": {"connect_timeout": 5, "read_timeout": ANSWER_SECONDS, "retries": {"max_attempts": 0}}}
    elif url.startswith(("http://", "https://")):
        import aiohttp

        options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=4 * ANSWER_SECONDS)}}
    try:
        files, path = fsspec.core.url_to_fs(url, **options)
    except (TypeError, AttributeError) as error:  # of kinds that take settings beside the address
        raise ValueError(f"files of this kind cannot be opened by their address alone: {error}") from error
    return files, path


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
        if not isinstance(error, (OSError, *_faults())):
            raise
        what = f"{_said(error)}: may not be read" if isinstance(error, PermissionError) else _said(error)
        raise UserError(f"{prefix}{url}: {what}. {_fix(url)}") from error
    finally:
        waiting.cancel()


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "the service went silent, and was waited for in vain"
    said = " ".join(str(getattr(error, "strerror", None) or error).split())
    if answer := HTTP_STATUS.match(said):
        return f"the service answered {answer[1]} {answer[2]}"
    return (said or type(error).__name__).strip().rstrip(".")[:300]


def _fix(url: str) -> str:
    scheme = url.partition("://")[0]
    if scheme in ("http", "https"):
        return "Fix: check the address and the network, or try again later; what lies behind a password is to be fetched first."
    asked = f" ({SECRETS[scheme]})" if scheme in SECRETS else ""
    return f"Fix: check the address, the network and the credentials{asked}."


def _faults() -> tuple[type[BaseException], ...]:
    """Of the libraries that are loaded: another cannot have raised anything."""
    found = [getattr(sys.modules[module], name, None) for module, name in FAULTS if module in sys.modules]
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseException))
