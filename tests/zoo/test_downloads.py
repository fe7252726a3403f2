"""Downloads that fail, that meet, and that are changed on the disk."""

import hashlib
import http.server
import io
import ssl
import threading
import zipfile
from pathlib import Path

import pytest

from keras_agalite.presets import downloads

pytestmark = pytest.mark.once

DATA = Path(__file__).parent / "data"
FILES = ("config.json", "model.weights.h5")
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w") as archive:
    archive.writestr("config.json", "{}")
    archive.writestr("model.weights.h5", bytes(range(256)) * 400)
CONTENT = buffer.getvalue()
SIZE = len(CONTENT)
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Starts an https server whose GET is a function; gives its address."""
    servers = []
    monkeypatch.setenv("SSL_CERT_FILE", str(DATA / "localhost.crt"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))

    def start(get):
        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                get(self)

        server = http.server.ThreadingHTTPServer(("localhost", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(DATA / "localhost.crt", DATA / "localhost.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        servers.append(server)
        return f"https://localhost:{server.server_address[1]}/small.zip"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler, content=CONTENT, length=SIZE, code=200, **headers):
    handler.send_response(code)
    if length is not None:
        headers["Content-Length"] = str(length)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def load(url, digest=HASH):
    return downloads.download(f"{url}#sha256={digest}", FILES, ())


def left(tmp_path):
    return [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_file_arrives_once(serve, tmp_path):
    requests = []

    def get(handler):
        requests.append(handler.path)
        send(handler)

    url = serve(get)
    folder = load(url)
    assert load(url) == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert len(requests) == 1
    assert not list(tmp_path.rglob("*.part"))


FAILURES = {
    "404": (lambda h: send(h, b"", 0, 404), "HTTPError: HTTP Error 404"),
    "500": (lambda h: send(h, b"", 0, 500), "HTTPError: HTTP Error 500"),
    "truncated": (lambda h: send(h, CONTENT[:50]), "ended after 50 of"),
    "html": (lambda h: send(h, b"<html>", 6), "another one"),
    "circle": (
        lambda h: send(h, b"", 0, 302, Location="/small.zip"),
        "infinite loop|redirect",
    ),
    "http": (
        lambda h: send(h, b"", 0, 302, Location="http://localhost/small.zip"),
        "redirects to http://localhost/small.zip",
    ),
    "file": (
        lambda h: send(h, b"", 0, 302, Location="file:///etc/hostname"),
        "file:///etc/hostname",
    ),
    "no http": (lambda h: h.wfile.write(b"hello\r\n\r\n"), "BadStatusLine"),
    "no length": (lambda h: send(h, CONTENT[:99], None), "another one"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_names_the_address_and_leaves_nothing(serve, tmp_path, name):
    get, message = FAILURES[name]
    url = serve(get)
    with pytest.raises(ValueError, match=rf"Received: {url}.*({message})"):
        load(url)
    assert left(tmp_path) == []


def test_no_server_is_a_value_error(serve, tmp_path):
    with pytest.raises(ValueError, match=r"Received: https://localhost:1/x\.zip"):
        load("https://localhost:1/x.zip")
    with pytest.raises(ValueError, match=r"Expected an address https://HOST"):
        load("https://localhost/a b.zip")
    assert left(tmp_path) == []


def test_a_silent_server_is_not_waited_for(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 0.3)
    over = threading.Event()

    def get(handler):
        send(handler, CONTENT[:100])
        over.wait(20)

    url = serve(get)
    with pytest.raises(ValueError, match=rf"Received: {url}.*timed out"):
        load(url)
    over.set()
    assert left(tmp_path) == []


@pytest.mark.parametrize("length", [None, 10**12])
def test_a_file_without_end_is_refused_at_a_limit(serve, tmp_path, monkeypatch, length):
    monkeypatch.setattr(downloads, "MAX_BYTES", 3 * 2**20)
    sent = []

    def get(handler):
        send(handler, b"", length)
        try:
            while len(sent) < 200:
                handler.wfile.write(bytes(2**20))
                sent.append(1)
        except OSError:
            pass

    url = serve(get)
    with pytest.raises(ValueError, match=rf"at most 3,145,728 bytes. Received: {url}"):
        load(url)
    assert len(sent) < 200
    assert left(tmp_path) == []


def test_two_at_once_do_not_meet(serve, tmp_path):
    first_begun, second_begun = threading.Event(), threading.Event()
    turn = iter(range(9))

    def get(handler):
        if next(turn) == 0:  # all but the end, until another download has begun
            send(handler, CONTENT[:-10])
            first_begun.set()
            second_begun.wait(20)
            handler.wfile.write(CONTENT[-10:])
        else:
            send(handler, CONTENT[:40_000])
            second_begun.set()
            handler.wfile.write(CONTENT[40_000:])

    url, folders = serve(get), []
    threads = [
        threading.Thread(target=lambda: folders.append(load(url))) for _ in range(2)
    ]
    threads[0].start()
    first_begun.wait(20)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(folders) == 2
    assert (folders[0] / "config.json").read_text() == "{}"
    assert len(left(tmp_path)) == 3


@pytest.mark.parametrize("change", ["bytes", "missing", "more"])
def test_a_changed_folder_is_unpacked_anew(serve, change):
    url = serve(send)
    folder = load(url)
    weights = folder / "model.weights.h5"
    expected = weights.read_bytes()
    if change == "bytes":
        weights.write_bytes(expected[:-10] + b"\x11" * 10)
    elif change == "missing":
        weights.unlink()
    else:
        (folder / "more.py").write_text("")
    assert load(url) == folder
    assert weights.read_bytes() == expected
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_a_rotten_file_is_fetched_anew_and_else_kept(serve, tmp_path):
    url = serve(send)
    archive = load(url).with_suffix(".zip")
    archive.write_bytes(b"rotten")
    load(url)
    assert archive.read_bytes() == CONTENT
    archive.write_bytes(b"rotten")
    with pytest.raises(ValueError, match="localhost:1"):
        load("https://localhost:1/small.zip")
    assert archive.read_bytes() == b"rotten"
