"""Prefect server, as `make up` starts it: it answers only requests that name this machine as itself.

Prefect looks at no Host header, so a page whose name was turned to 127.0.0.1 after it was loaded (DNS rebinding) would be one
origin with the server. Its password and its CORS rule are settings (flows/commands/services.py).
"""

from prefect.server.api.server import create_app as create_prefect_app
from starlette.middleware.trustedhost import TrustedHostMiddleware

NAMES = ["127.0.0.1", "localhost"]


def create_app() -> TrustedHostMiddleware:
    """What uvicorn serves; any other Host gets 400."""
    return TrustedHostMiddleware(create_prefect_app(final=True), allowed_hosts=NAMES)
