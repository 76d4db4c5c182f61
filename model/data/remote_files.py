"""Remote files: addresses that fsspec opens, within bounded time, and what their services say in place of a file."""

import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

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
HTTP_STATUS = re.compile(r"(\d{3}), message='([^']*)', url=")  # as aiohttp spells an answer


def open_remote(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of an address and the path in it. ImportError, ValueError for a kind that cannot be opened."""
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


def service_faults() -> tuple[type[Exception], ...]:
    """What libraries below fsspec raise that is no OSError: of those that are loaded, since another cannot have raised anything."""
    found = [getattr(sys.modules[module], name, None) for module, name in FAULTS if module in sys.modules]
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))


def said(error: Exception) -> str:
    """What a service answered, or that it did not, on one line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "the service went silent, and was waited for in vain"
    words = " ".join(str(getattr(error, "strerror", None) or error).split())
    if answer := HTTP_STATUS.match(words):
        return f"the service answered {answer[1]} {answer[2]}"
    return (words or type(error).__name__).strip().rstrip(".")[:300]
