"""Where the campaign's webhooks go: notes every request, and refuses the first one of some jobs."""

from __future__ import annotations

import json
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.torture.history import History

GOOD, REFUSED = 200, 503


class Endpoint:
    """An HTTP server of the campaign's own process; its history is `hooks.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self._history = History(folder / "hooks.jsonl")
        self._seen: set[str] = set()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(endpoint.answer_to(told))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """The history has it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint")

    def start(self) -> None:
        """From now on it answers."""
        self._thread.start()

    def answer_to(self, told: dict[str, Any]) -> int:
        """The status to answer with; noted before it is sent, as who asks may be killed by then."""
        job_id = told["job_id"]
        is_first = job_id not in self._seen
        self._seen.add(job_id)
        answer = REFUSED if is_first and zlib.crc32(job_id.encode()) % 3 == 0 else GOOD
        self._history.note("hook", id=job_id, status=told["status"], answer=answer)
        return answer

    def stop(self) -> None:
        """No more answers."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._history.close()
