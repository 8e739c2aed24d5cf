"""What a page is served during its session, from this machine alone: itself, the runtime, the job, the files; and what it
says back."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page")
TYPES = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm"}
# Isolated, a page has a clock of 5 us and threads. Source: https://developer.mozilla.org/docs/Web/API/crossOriginIsolated
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
MOST_BYTES = 256 * 2**20
"""Of an answer: a session of many millions of runs."""


@dataclass(eq=False)
class Conversation:
    """Of one session: `files` by the names that the page asks for, the folder of the `runtime`, the `job`; `heard` is called
    with each phase that the page comes to. `answer` is what it found, once `done`."""

    files: Mapping[str, Path]
    runtime: Path
    job: Mapping[str, Any]
    heard: Callable[[str], None]
    answer: bytes = b""
    done: threading.Event = field(default_factory=threading.Event)


@contextmanager
def served(conversation: Conversation) -> Iterator[str]:
    """The address of the page. It holds a secret: no other page, and no other user of this machine, gets a file."""
    secret = secrets.token_urlsafe(24)
    server = _Server(("127.0.0.1", 0), partial(_Handler, conversation, secret))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{secret}/index.html"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing: a browser that ends leaves its connections as they are."""


class _Handler(BaseHTTPRequestHandler):
    """`/SECRET/NAME`: index.html and agent.js, `runtime/PATH`, `files/NAME`, `job`; posts to `phase/NAME` and `answer`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, conversation: Conversation, secret: str, *arguments: Any) -> None:
        self._conversation, self._secret = conversation, secret
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Serve one file, or the job."""
        path = self._asked()
        kind, _, name = path.partition("/")
        if path == "job":
            self._send(json.dumps(self._conversation.job).encode(), "application/json")
        elif kind == "files" and name in self._conversation.files:
            self._send_file(self._conversation.files[name])
        elif (kind == "runtime" and (found := _inside(self._conversation.runtime, name))) or (
            found := _inside(PAGE, path)
        ):
            self._send_file(found)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Hear a phase, or the answer."""
        kind, _, name = self._asked().partition("/")
        length = int(self.headers.get("Content-Length") or 0)
        if kind not in ("phase", "answer") or not 0 <= length <= MOST_BYTES:
            self.send_error(404)
            return
        content = self.rfile.read(length)
        if kind == "phase":
            self._conversation.heard(name)
        else:
            self._conversation.answer = content
            self._conversation.done.set()
        self._send(b"", "text/plain")

    def log_message(self, *_: object) -> None:
        """Nothing: a session's requests are no news."""

    def _asked(self) -> str:
        """What is asked for behind the secret; empty without it."""
        secret, _, path = self.path.partition("?")[0].removeprefix("/").partition("/")
        return path if secrets.compare_digest(secret.encode(), self._secret.encode()) else ""

    def _send_file(self, path: Path) -> None:
        self._send(path.read_bytes(), TYPES.get(path.suffix, "application/octet-stream"))

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        headers = {**ISOLATED, "Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _inside(folder: Path, name: str) -> Path | None:
    """The file of that name in `folder`, None for none and for a path that leads out."""
    path = (folder / name).resolve() if name else folder
    return path if path.is_file() and path.is_relative_to(folder.resolve()) else None
