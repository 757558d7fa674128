"""Stand-ins for Cloud Storage on this machine: a folder that TensorStore sees over HTTP, and one that is gs://."""

import contextlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from etils.epath import backend
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry


class _Requests(http.server.BaseHTTPRequestHandler):
    """The few requests of Cloud Storage's JSON interface that TensorStore makes: list, read a range, write, delete."""

    protocol_version = "HTTP/1.1"
    root: Path
    log: list[str]

    def log_message(self, *_):
        pass

    def _parse(self) -> tuple[Path, str, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        _, _, after = url.path.partition("/b/")
        bucket, _, name = after.partition("/o")
        self.log.append(f"{self.command} {self.path}")
        return self.root / bucket, urllib.parse.unquote(name.removeprefix("/")), query

    def _answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        bucket, name, query = self._parse()
        if not name:
            first, last, prefix = (query.get(key, "") for key in ("startOffset", "endOffset", "prefix"))
            found = [path.relative_to(bucket).as_posix() for path in sorted(bucket.rglob("*")) if path.is_file()]
            items = [
                {"name": name, "size": str((bucket / name).stat().st_size)}
                for name in found
                if name.startswith(prefix) and first <= name and (not last or name < last)
            ]
            return self._answer(200, json.dumps({"items": items}).encode())
        path = bucket / name
        if not path.is_file():
            return self._answer(404)
        content = path.read_bytes()
        generation = str(path.stat().st_mtime_ns)
        if query.get("ifGenerationNotMatch") == generation:
            return self._answer(304)
        headers = {"x_goog_generation": generation, "x_goog_stored_content_length": str(len(content))}
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else len(content) - int(last)
            part = content[start : int(last) + 1 if first and last else len(content)]
            headers["Content_Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            return self._answer(206, part, **headers)
        return self._answer(200, content, **headers)

    def do_POST(self):
        bucket, _, query = self._parse()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path = bucket / query["name"]
        there = str(path.stat().st_mtime_ns) if path.exists() else "0"
        if query.get("ifGenerationMatch", there) != there:
            return self._answer(412)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        about = {"name": query["name"], "size": str(len(content)), "generation": str(path.stat().st_mtime_ns)}
        self._answer(200, json.dumps(about).encode())

    def do_DELETE(self):
        bucket, name, _ = self._parse()
        path = bucket / name
        if not path.is_file():
            return self._answer(404)
        path.unlink()
        drop_empty(path.parent)
        self._answer(204)


def drop_empty(folder: Path) -> None:
    """Delete a folder and those above it as far as they are empty: in a bucket there are none without an object."""
    with contextlib.suppress(OSError):
        for path in (folder, *folder.parents):
            path.rmdir()


@contextlib.contextmanager
def serve(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the folder's subfolders as buckets; yield the address, and the requests as they come."""
    log: list[str] = []
    handler = type("Requests", (_Requests,), {"root": root, "log": log})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", log
    finally:
        server.shutdown()
        server.server_close()


def be_gs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the folder's subfolders be the buckets that gs:// names; no request leaves this machine."""

    class Buckets(DirFileSystem):
        cachable = False

        def __init__(self, **_):
            super().__init__(path=str(root), fs=LocalFileSystem(auto_mkdir=True))

        def _join(self, path):
            return super()._join(path.removeprefix("gs://") if isinstance(path, str) else path)

        def mkdir(self, path, *_, **__):
            """Do nothing, as gcsfs below a bucket: there are no folders but in the names of objects."""

        makedirs = mkdir

        def rm(self, path, *given, **options):
            super().rm(path, *given, **options)
            drop_empty(Path(self._join(path)).parent)

    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: {"gcs": Buckets}[name]())
    monkeypatch.setitem(_registry, "gs", Buckets)
