import contextlib
import hashlib
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from attnzoo.errors import FetchError, HashMismatch
from attnzoo.weights.cache import cached_path
from attnzoo.weights.download import Policy, download, source_of
from attnzoo.weights.fetch import fetch, local_path_of

BODY = bytes(range(256)) * 2000
SIZE = len(BODY)
OTHER = BODY[::-1]
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Policy(attempts=3, timeout=5, pause=0.001, longest_pause=0.01)


class Plan:
    """What the server does: a list of behaviours, one a request, the last for all further ones."""

    def __init__(self):
        self.steps = ["whole"]
        self.seen = []
        self.body = BODY
        self.etag = '"one"'


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        plan = self.server.plan
        step = plan.steps.pop(0) if len(plan.steps) > 1 else plan.steps[0]
        plan.seen.append(dict(self.headers))
        if step.isdigit():
            self.send_error(int(step))
            return
        if step == "other":
            plan.body, plan.etag = OTHER, '"two"'
        start = 0
        asked = self.headers.get("Range")
        if asked and self.headers.get("If-Range") == plan.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if asked and step == "shifted":
            start -= 7
        body = plan.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(plan.body) - 1}/{len(plan.body)}")
        if plan.etag:
            self.send_header("ETag", plan.etag)
        if step == "no-length":
            self.close_connection = True
        elif step == "long":
            self.send_header("Content-Length", str(len(body) + 100))
        elif step == "short":
            self.send_header("Content-Length", str(len(body) - 100))
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if step == "cut":
            body = body[: max(1, len(body) // 3)]
            self.close_connection = True
        if step == "slow":
            for i in range(0, len(body), 4096):
                self.wfile.write(body[i : i + 4096])
                time.sleep(0.002)
            return
        with contextlib.suppress(OSError):
            self.wfile.write(body + b"!" * 50 if step == "more" else body)


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("ATTNZOO_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATTNZOO_CACHE", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan = Plan()
    server.url = f"http://127.0.0.1:{server.server_port}/w.safetensors"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def get(server, sha=SHA, size=SIZE):
    return fetch(server.url, sha, size=size, where="weights 'w'", policy=QUICK)


def test_a_file_is_fetched_verified_and_then_found_here(server):
    path = get(server)
    assert path.read_bytes() == BODY
    assert get(server) == path
    assert len(server.plan.seen) == 1
    assert [p.name for p in path.parent.iterdir() if p.suffix in (".part", ".etag")] == []


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_connection_that_is_cut_is_resumed_where_it_stopped(server, size):
    server.plan.steps = ["cut", "cut", "whole"]
    assert get(server, size=size).read_bytes() == BODY
    assert "Range" not in server.plan.seen[0]
    assert server.plan.seen[1]["If-Range"] == '"one"'
    assert server.plan.seen[1]["Range"] != server.plan.seen[2]["Range"]


def test_a_file_that_changes_between_ranges_is_begun_anew(server):
    server.plan.steps = ["cut", "other"]
    assert get(server, hashlib.sha256(OTHER).hexdigest()).read_bytes() == OTHER


def test_without_a_tag_nothing_is_resumed(server):
    server.plan.etag = ""
    server.plan.steps = ["cut", "whole"]
    assert get(server).read_bytes() == BODY
    assert "Range" not in server.plan.seen[1]


def test_a_server_that_sends_another_range_is_asked_anew(server):
    server.plan.steps = ["cut", "shifted", "whole"]
    assert get(server).read_bytes() == BODY


@pytest.mark.parametrize("step", ["short", "no-length"])
def test_a_wrong_or_missing_length_does_not_matter_when_the_size_is_known(server, step):
    server.plan.steps = [step, "whole"]
    assert get(server).read_bytes() == BODY


def test_a_length_that_is_never_reached_is_an_error_that_keeps_what_came(server):
    server.plan.steps = ["long"]
    with pytest.raises(FetchError, match="times without progress; try again, it will go on where it stopped"):
        get(server, size=None)


def test_more_bytes_than_promised_are_refused(server):
    with pytest.raises(FetchError, match="more than the 1000 bytes that the registry file promises; nothing was kept"):
        get(server, size=1000)
    assert not cached_path(server.url, SHA).with_name(cached_path(server.url, SHA).name + ".part").exists()


def test_the_wrong_bytes_are_refused_and_not_kept(server):
    server.plan.body = OTHER
    with pytest.raises(HashMismatch) as caught:
        get(server)
    assert f"has sha256 {hashlib.sha256(OTHER).hexdigest()}, expected {SHA}; nothing was loaded" in str(caught.value)
    folder = cached_path(server.url, SHA).parent
    assert [p.name for p in folder.iterdir() if not p.name.endswith(".lock")] == []


def test_404_is_told_at_once(server):
    server.plan.steps = ["404"]
    with pytest.raises(FetchError) as caught:
        get(server)
    assert str(caught.value) == (
        f"{server.url}: the server answered 404 Not Found, expected the file; the address may have moved"
    )
    assert len(server.plan.seen) == 1


@pytest.mark.parametrize("code", ["429", "500", "503"])
def test_a_server_in_trouble_is_asked_again(server, code):
    server.plan.steps = [code, code, "whole"]
    assert get(server).read_bytes() == BODY


def test_a_server_that_stays_in_trouble_is_an_error(server):
    server.plan.steps = ["500"]
    with pytest.raises(FetchError, match="the server answered 500 Internal Server Error, 3 times without progress"):
        get(server)


def test_416_lets_the_file_be_fetched_anew(server):
    server.plan.steps = ["cut", "416", "whole"]
    assert get(server).read_bytes() == BODY


def test_a_publishers_short_hash_is_enough(server):
    assert get(server, SHA[:8]).read_bytes() == BODY


def test_a_file_in_the_cache_that_was_changed_is_fetched_anew(server):
    path = get(server)
    path.write_bytes(OTHER)
    assert get(server).read_bytes() == BODY


@pytest.mark.parametrize("variable", ["ATTNZOO_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked(server, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(
        FetchError, match="weights 'w': not on this machine, and ATTNZOO_OFFLINE or HF_HUB_OFFLINE forbids"
    ):
        get(server)
    assert server.plan.seen == []


def test_offline_a_cached_file_is_still_found(server, monkeypatch):
    path = get(server)
    monkeypatch.setenv("ATTNZOO_OFFLINE", "1")
    assert get(server) == path


def test_many_at_once_fetch_once(server):
    server.plan.steps = ["slow"]
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(server))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(server.plan.seen) == 1


def test_the_hub_is_asked_with_its_token(server, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", server.url.rpartition("/")[0])
    monkeypatch.setenv("HF_TOKEN", "secret")
    source = source_of("hf://org/repo/a/w.safetensors@abc")
    assert source.url.endswith("/org/repo/resolve/abc/a/w.safetensors")
    assert fetch("hf://org/repo/a/w.safetensors@abc", SHA, policy=QUICK).read_bytes() == BODY
    assert server.plan.seen[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("address", ["hf://org/file", "hf://org//file", "ftp://x/y"])
def test_other_addresses_are_refused(address):
    with pytest.raises(FetchError, match=r"expected .*hf://org/repo/file@revision"):
        source_of(address)


def test_local_addresses_are_paths(tmp_path):
    assert local_path_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert local_path_of("w.safetensors", tmp_path) == tmp_path / "w.safetensors"
    assert local_path_of("package:attnzoo/errors.py").name == "errors.py"
    assert local_path_of("https://x/y") is None


def test_a_connection_that_is_refused_is_told(tmp_path):
    with pytest.raises(FetchError, match="the connection failed"):
        download(source_of("http://127.0.0.1:9/x"), tmp_path / "x.part", policy=QUICK)


PULL_FOR_EVER = """
import os, sys
from attnzoo.weights.fetch import fetch
print("ready", flush=True)
while True:
    path = fetch(sys.argv[1], sys.argv[2], size=int(sys.argv[3]))
    os.unlink(path)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_of_a_download_leaves_a_whole_file_or_none(server):
    server.plan.steps = ["slow"]
    rng = random.Random(0)
    path = cached_path(server.url, SHA)
    for _ in range(100):
        arguments = [sys.executable, "-c", PULL_FOR_EVER, server.url, SHA, str(SIZE)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0, 0.4))
            process.kill()
        assert not path.exists() or path.read_bytes() == BODY
    server.plan.steps = ["whole"]
    assert get(server).read_bytes() == BODY
    assert not [p for p in path.parent.iterdir() if p.suffix in (".part", ".etag")]
