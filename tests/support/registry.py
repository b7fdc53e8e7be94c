"""A registry of images with one image in it, served on this machine; Docker takes 127.0.0.1 for trusted.

As Docker Hub, it gives anyone a token and nothing without one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@contextmanager
def registry() -> Iterator[str]:
    """Serve an image that has one file, `/motd`. Gives its name."""
    blobs, manifest = _image()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, _, digest = self.path.rpartition("/")
            if self.path.startswith("/token"):
                self._send(b'{"token": "anyone"}', "application/json")
            elif "Authorization" not in self.headers:
                self._send(b"{}", "application/json", status=401)
            elif self.path == "/v2/":
                self._send(b"{}", "application/json")
            elif kind.endswith("/manifests"):
                self._send(manifest, _MANIFEST)
            elif digest in blobs:
                self._send(blobs[digest], "application/octet-stream")
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 -- the name is the library's

        def _send(self, body: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            if status == 401:
                realm = f"http://127.0.0.1:{server.server_port}/token"
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="test"')
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Docker-Content-Digest", _digest(body))
            self.send_header("Docker-Distribution-API-Version", "registry/2.0")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/greeting:1"
        finally:
            server.shutdown()
            thread.join()


def _image() -> tuple[dict[str, bytes], bytes]:
    """The blobs by digest, and the manifest."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("motd")
        member.size = len(b"hello")
        archive.addfile(member, io.BytesIO(b"hello"))
    layer = gzip.compress(tar.getvalue())
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/none"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(tar.getvalue())]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _described(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [_described(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
    ).encode()
    return {_digest(blob): blob for blob in (config, layer)}, manifest


def _described(blob: bytes, kind: str) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
