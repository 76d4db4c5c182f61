"""Webhook notification: a night in one line, posted to an address that stands in no log, journal, parameter or message."""

import json
import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from http import HTTPStatus
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tasks.promotion.notify_config import FROM_ENVIRONMENT, NotifyConfig
from tasks.report.morning_facts import Morning
from tasks.report.morning_wording import notice_text, outcome, why_text
from tasks.settings import Json

logger = logging.getLogger("wordmill")

ANSWER_SECONDS = 10.0  # for each of two tries
RETRY_SECONDS = 2.0  # between them
MAY_PASS = (408, 429)  # besides what a server calls its own fault
UNREACHED = {ConnectionRefusedError: "refuses the connection", ssl.SSLError: "has a certificate that is not trusted"}


class NoRedirect(HTTPRedirectHandler):
    """A redirect is an answer like any other: followed, it would lose what is posted."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        """None: not followed."""


def notify(config: NotifyConfig, morning: Morning) -> bool:
    """Tell the webhook, if the recipe names one and wants to hear of such a night; whether it took it.

    Nothing that goes wrong here ends a night: it is a warning, without the address.
    """
    if config.webhook is None or not is_wanted(config, morning):
        return False
    problem = _held_to(lambda: _tell(config.webhook or "", morning), 2 * ANSWER_SECONDS + 2 * RETRY_SECONDS)
    if problem is not None:
        logger.warning("Nobody was told of this night: the webhook in %s %s", config.webhook, problem)
    return problem is None


def is_wanted(config: NotifyConfig, morning: Morning) -> bool:
    """Whether the recipe wants to hear of such a night."""
    if config.when == "always":
        return True
    return morning.state not in (("nothing new",) if config.when == "decided" else ("nothing new", "decided"))


def payload(morning: Morning) -> dict[str, Json]:
    """What is posted. `text` is what Slack and Mattermost show; it holds none of the signs by which they call everybody."""
    return {
        "text": notice_text(morning).translate({ord("<"): "‹", ord(">"): "›"}),
        "verdict": outcome(morning),
        "name": morning.name,
        "version": morning.version,
        "why": why_text(morning),
        "new_rows": morning.rows.new,
        "links": dict(morning.links),
    }


def _held_to(act: Callable[[], str | None], seconds: float) -> str | None:
    """What `act` says, if it says it in time. It is left behind else: the name of a host may be looked for without end."""
    said: list[str | None] = []
    context = copy_context()  # Prefect keeps there which server this run has
    thread = threading.Thread(target=lambda: said.append(context.run(act)), daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else f"did not answer within {seconds:.0f} s"


def _tell(reference: str, morning: Morning) -> str | None:
    """Why it could not be told, or None; tried twice where that may help."""
    address = _address(reference)
    if address is None:
        return "is not set, or holds no address that begins with https:// or http://. Fix: put the webhook's address there"
    body = json.dumps(payload(morning), ensure_ascii=False).encode()
    problem, may_pass = _post(address, body)
    if problem is not None and may_pass:
        time.sleep(RETRY_SECONDS)
        problem, _ = _post(address, body)
    return problem


def _address(reference: str) -> str | None:
    """What the variable or the block holds, if it is a web address without a password in it."""
    kind, _, name = reference.partition(":")
    found = os.environ.get(name) if kind == FROM_ENVIRONMENT else _secret(name)
    address = (found or "").strip()
    try:
        parts = urlsplit(address)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None and (parts.port or 1) > 0
    except ValueError:
        return None
    return address if is_web and address.isascii() and address.isprintable() and " " not in address else None


def _secret(name: str) -> str | None:
    """What Prefect's Secret block holds; None where there is no such block, or no server that has it."""
    from httpx import HTTPError as HttpxError
    from prefect.blocks.system import Secret
    from prefect.exceptions import PrefectException

    try:
        return str(Secret.load(name).get())  # pyright: ignore[reportAttributeAccessIssue]  (typed as a coroutine, too)
    except (ValueError, RuntimeError, PrefectException, HttpxError):
        return None


def _post(address: str, body: bytes) -> tuple[str | None, bool]:
    """Why it was not taken, in words of our own (those of libraries hold the address), and whether another try may help."""
    request = Request(address, body, {"Content-Type": "application/json; charset=utf-8", "User-Agent": "wordmill"}, method="POST")
    try:
        build_opener(NoRedirect).open(request, timeout=ANSWER_SECONDS).close()
    except HTTPError as error:
        error.close()
        return _answered(error.code), error.code >= 500 or error.code in MAY_PASS
    except (URLError, HTTPException, OSError) as error:
        return _unreached(error), True
    except ValueError:  # no name that a host may have
        return "holds an address that no server can have. Fix: put the webhook's address there", False
    return None, False


def _answered(code: int) -> str:
    name = HTTPStatus(code).phrase if code in {status.value for status in HTTPStatus} else ""
    told = f"answered {code} {name}".rstrip()
    return f"{told}. Fix: store the address that it leads to" if 300 <= code < 400 else told


def _unreached(error: Exception) -> str:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return f"did not answer within {ANSWER_SECONDS:.0f} s"
    told = next((words for kind, words in UNREACHED.items() if isinstance(cause, kind)), None)
    return told or f"could not be reached ({type(cause).__name__})"
