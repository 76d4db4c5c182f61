"""A small object store that speaks as much of S3 as s3fs asks of it: one bucket, objects in memory, on a port of this machine."""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "bucket"


class Store(ThreadingHTTPServer):
    """Its objects by key; `refuses`: after so many objects that were put it is overloaded, whatever it is asked; None: never."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.objects: dict[str, bytes] = {}
        self.refuses: int | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def s3_store() -> Generator[Store]:
    """Open while within."""
    store = Store()
    threading.Thread(target=store.serve_forever, daemon=True).start()
    try:
        yield store
    finally:
        store.shutdown()
        store.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def do_PUT(self) -> None:
        body = self._body()
        if self._is_ready():
            self.server.objects[self._key()] = body
            self._answer(200, b"")

    def do_GET(self) -> None:
        if not self._is_ready():
            return
        asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "list-type" in asked:
            self._answer(200, self._listed(asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0]))
        elif self._key() in self.server.objects:
            self._answer(200, self.server.objects[self._key()])
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>")

    def do_HEAD(self) -> None:
        if self._is_ready():
            found = self.server.objects.get(self._key())
            self._answer(404 if found is None else 200, b"", size=0 if found is None else len(found))

    def do_DELETE(self) -> None:
        if self._is_ready():
            self.server.objects.pop(self._key(), None)
            self._answer(204, b"")

    def _is_ready(self) -> bool:
        is_ready = self.server.refuses is None or len(self.server.objects) < self.server.refuses
        if not is_ready:
            self._answer(503, b"<Error><Code>SlowDown</Code><Message>reduce your request rate</Message></Error>")
        return is_ready

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").lstrip("/")

    def _body(self) -> bytes:
        """As it was sent, also in signed pieces (aws-chunked)."""
        if "content-length" in self.headers:
            body = self.rfile.read(int(self.headers["content-length"]))
        else:
            body = self._pieces()
        if "aws-chunked" not in self.headers.get("content-encoding", ""):
            return body
        plain = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            length = int(size.partition(b";")[0], 16)
            if not length:
                break
            plain, body = plain + body[:length], body[length + 2 :]
        return plain

    def _pieces(self) -> bytes:
        body = b""
        while length := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _listed(self, prefix: str, delimiter: str) -> bytes:
        keys = sorted(key for key in self.server.objects if key.startswith(prefix))
        folders = {key[: key.index(delimiter, len(prefix)) + 1] for key in keys if delimiter and delimiter in key[len(prefix) :]}
        files = [key for key in keys if not any(key.startswith(folder) for folder in folders)]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.server.objects[key])}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in files
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        told = f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(files) + len(folders)}</KeyCount>"
        return f"<ListBucketResult>{told}<IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>".encode()

    def _answer(self, status: int, body: bytes, size: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
