"""Stands in for vLLM's server, as a real process that speaks HTTP on a Unix socket: `python vllm_stand_in.py SOCKET`.

It is the only fake of the tests of `serve`. It answers the first prompt with A and the second with B, as a judge does
who prefers the first response in both orders. Requests are kept in the folder of RECORD, which a test reads.
"""

from __future__ import annotations

import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

RECORD = Path(os.environ["RECORD"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer(200, b"")
        elif self.path.startswith("/v1/models"):
            self._answer(200, json.dumps({"path": self.path, "auth": self.headers["authorization"]}).encode())
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        (RECORD / "request.json").write_bytes(body)
        request = json.loads(body)
        if request.get("die"):
            print("ValueError: the GPU is on fire", file=sys.stderr, flush=True)
            os._exit(1)
        if request.get("stream"):
            self._stream()
        elif isinstance(request["prompt"], str):
            self._answer(400, b'{"error": {"message": "no"}}')
        else:
            choices = [
                {"index": i, "text": f"<think>x</think><preference>{'AB'[i % 2]}</preference>", "token_ids": [1, 2]}
                for i in range(len(request["prompt"]))
            ]
            self._answer(200, json.dumps({"choices": choices[::-1]}).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        """One event, and the next only when the test has seen the first; `closed` when nobody listens any more."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._chunk(b"data: one\n\n")
            while not (RECORD / "seen").exists():
                time.sleep(0.02)
                self._chunk(b": ping\n\n")
            self._chunk(b"data: two\n\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            (RECORD / "closed").touch()
            self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_: object) -> None: ...

    def address_string(self) -> str:
        return "test"


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


if __name__ == "__main__":
    Server(sys.argv[1], Handler).serve_forever()
