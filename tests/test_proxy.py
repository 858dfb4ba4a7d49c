"""The files for proxies in deploy/: a browser's journey through them, and what they hold."""

import gzip
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

import pytest
from conftest import PASSWORD, QUICK_HASH, Person, missing
from PIL import Image
from playwright.sync_api import expect
from test_browser import add_picture, browser, chromium, comment, follow, sign_up  # noqa: F401
from test_server import ROOT, Place, answers, ask, free_port, running
from werkzeug.datastructures import FileStorage

pytestmark = pytest.mark.slow
DEPLOY = ROOT / "deploy"
QUICK = {"BLOG_PROXIES": "1", "BLOG_PASSWORD_HASH": QUICK_HASH}
NGINX = """
{user}
daemon off;
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
  access_log off;
  types {{ }}
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  include {folder}/blog.conf;
}}
"""
MB = 1_000_000
SLOW = 40  # clients; half of them are more than the blog has threads
PLACES = [
    *(("nginx", ""), ("nginx", "/blog"), ("stripping nginx", "/blog")),
    *(("caddy", ""), ("caddy", "/blog"), ("newest caddy", "")),
]
everywhere = pytest.mark.parametrize("place", PLACES, ids=" ".join, indirect=True)
both = pytest.mark.parametrize("place", [("nginx", ""), ("caddy", "")], ids=" ".join, indirect=True)
each = pytest.mark.parametrize("name", ["nginx", "caddy", "newest caddy"])


# The proxies --------------------------------------------------------------------------------------


def program(name):
    """The path of the proxy's program."""
    if name == "newest caddy":
        return shutil.which("caddy", path=Path(sys.executable).parent) or missing(
            "The newest Caddy", "make .venv/test"
        )
    name = name.removeprefix("stripping ")
    package = {"nginx": "nginx-light"}.get(name, name)
    found = shutil.which(name, path="/usr/sbin:/usr/bin")
    return found or missing(name, f"apt-get install {package}")


def replaced(name, pairs):
    """The text of a file in deploy/ with other parts, each of which is there once."""
    text = (DEPLOY / name).read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def nginx(folder, name, path, ports, files, upstreams):
    """The command of an nginx with the shipped file, at ports and with a certificate of ours."""
    slash = "/" if name == "stripping nginx" else ""
    servers = " ".join(f"server {upstream} max_fails=0;" for upstream in upstreams)
    pairs = [
        *(("    listen [::]:443 ssl http2;\n", ""), ("    listen [::]:80;\n", "")),
        ("listen 443 ssl", f"listen 127.0.0.1:{ports[0]} ssl"),
        ("listen 80", f"listen 127.0.0.1:{ports[1]}"),
        ("/etc/letsencrypt/live/blog.example/fullchain.pem", str(files[0])),
        ("/etc/letsencrypt/live/blog.example/privkey.pem", str(files[1])),
        ("server 127.0.0.1:8000 max_fails=0;", servers),
        ("blog;\n    }\n\n    location @", f"blog{slash};\n    }}\n\n    location @"),
    ]
    if path:  # as the comment in the file says
        pairs.append(("    # location /blog/ {\n    location / {", "    location /blog/ {"))
    text = replaced("nginx.conf", pairs)
    (folder / "blog.conf").write_text(text.replace("name blog.example;", "name localhost;"))
    # By default, nginx works as a user who cannot write to the folder of a test of root's.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user))
    return [program(name), "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"], {}


def caddy(folder, name, path, ports, files, upstreams):
    """The command of a Caddy with the shipped file, at ports and with a certificate of ours."""
    ours = f"\tadmin off\n\tdefault_bind 127.0.0.1\n\thttp_port {ports[1]}\n"
    pairs = [
        ("\tservers {\n", f"{ours}\tservers {{\n"),
        ("{$SITE:localhost} {\n", f"{{$SITE:localhost}} {{\n\ttls {files[0]} {files[1]}\n"),
    ]
    if path:  # as the comment in the file says
        pairs.append(
            ("\t# @blog path /blog /blog/*\n\t@blog path *\n", "\t@blog path /blog /blog/*\n")
        )
    (folder / "Caddyfile").write_text(replaced("Caddyfile", pairs))
    settings = {"SITE": f"https://localhost:{ports[0]}", "UPSTREAMS": " ".join(upstreams)}
    words = [program(name), "run", "--adapter", "caddyfile", "--config", folder / "Caddyfile"]
    return words, settings | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """The files of a certificate for localhost, and of its key."""
    shutil.which("openssl") or missing("openssl", "apt-get install openssl")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command += " -out certificate -keyout key"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return folder / "certificate", folder / "key"


@contextmanager
def proxied(folder, name, path, files, *upstreams):
    """The ports of https and http at which the proxy passes on to the ports of blogs."""
    ports = free_port(), free_port()
    command_of = nginx if name.endswith("nginx") else caddy
    upstreams = [f"127.0.0.1:{port}" for port in upstreams]
    words, settings = command_of(folder, name, path, ports, files, upstreams)
    with subprocess.Popen(words, env=os.environ | settings, stderr=subprocess.PIPE) as process:
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        try:
            deadline = time.monotonic() + 10
            while not answers(ports[0]) and time.monotonic() < deadline:
                time.sleep(0.05)
            yield ports
        finally:
            process.terminate()
            drain.join()


@contextmanager
def behind(folder, name, path, files, **settings):
    """A blog under a path behind the proxy."""
    blog = free_port()
    with proxied(folder, name, path, files, blog) as (port, http_port):
        own = {
            "BLOG_URL": f"https://localhost:{port}{path}",
            "BLOG_PORT": str(blog),
            "BLOG_DATABASE_URL": f"sqlite:///{folder / 'blog.db'}",
            "BLOG_SECRET_KEY": "only for tests",
            "SSL_CERT_FILE": str(files[0]),
        }
        settings = QUICK | settings | own
        context = ssl.create_default_context(cafile=files[0])
        with running(folder, blog, **settings):
            yield Place(settings["BLOG_URL"], context, http_port, blog, settings)


@pytest.fixture(scope="module")
def place(request, tmp_path_factory, certificate):
    """A blog behind a proxy, which several tests share: each has people of its own."""
    with behind(tmp_path_factory.mktemp("place"), *request.param, certificate) as place:
        yield place


numbers = count(1)


@pytest.fixture
def writer(place):
    """An author with a browser, behind the proxy."""
    return Person(place, f"writer{next(numbers)}", urlsplit(place.url).path).sign_up()


def doctor(place, **settings):
    """What `flask doctor` says of the blog that runs, and its exit status."""
    environment = os.environ | place.settings | {"BLOG_SIGNUP": "invite"} | settings
    words = [sys.executable, "-m", "flask", "doctor"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr, done.returncode


# The files themselves -----------------------------------------------------------------------------


def test_nginx_takes_its_file_without_a_warning(tmp_path, certificate):
    words, _ = nginx(
        tmp_path, "nginx", "", (free_port(), free_port()), certificate, ["127.0.0.1:1"]
    )
    result = subprocess.run([*words, "-t"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "[warn]" not in result.stderr


@pytest.mark.parametrize("name", ["caddy", "newest caddy"])
def test_caddy_takes_its_file_without_a_warning_and_would_write_it_so(name, tmp_path):
    file = DEPLOY / "Caddyfile"
    environment = os.environ | {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    options = {"env": environment, "capture_output": True, "text": True}
    words = [program(name), "validate", "--adapter", "caddyfile", "--config", file]
    result = subprocess.run(words, **options)
    assert result.returncode == 0, result.stderr
    assert '"level":"warn"' not in result.stderr
    assert subprocess.run([program(name), "fmt", file], **options).stdout == file.read_text()


# A blog behind them -------------------------------------------------------------------------------


@everywhere
def test_a_journey(browser, place, tmp_path):  # noqa: F811
    """Sign up, post a picture, log out, log in to comment, follow links, log out."""
    base, home = place.url, f"{place.url}/"
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(base)
    follow(page, "link", "Home")
    expect(page).to_have_url(home)
    sign_up(page, "ann")
    follow(page, "link", "New Post")
    page.get_by_label("Title").fill("My first post")
    page.get_by_label("Text").fill("Hello. See [all tags](/tags).")
    add_picture(page, tmp_path)
    expect(page.get_by_label("Text")).to_have_value(re.compile(r"\(/pictures/"))
    follow(page, "button", "Publish")
    expect(page).to_have_url(re.compile(rf"{base}/posts/\d+/my-first-post$"))
    post = page.url
    expect(page.get_by_role("article")).to_contain_text(re.compile(r"Published on .* by\s+ann"))
    expect(page.get_by_alt_text("A colour")).to_have_js_property("naturalWidth", 600)
    assert page.evaluate("getComputedStyle(document.body).margin") != "8px"  # the style is there
    follow(page, "button", "Log Out")
    page.goto(f"{post}/")
    expect(page).to_have_url(post)
    follow(page, "link", "Log in to comment")
    page.get_by_label("Username").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    follow(page, "button", "Log in")
    expect(page).to_have_url(f"{post}#write")
    comment(page, "Welcome!")
    expect(page).to_have_url(re.compile(rf"{post}#comment-\d+$"))
    (cookie,) = page.context.cookies()
    path = urlsplit(base).path or "/"
    assert (cookie["path"], cookie["secure"], cookie["httpOnly"]) == (path, True, True)
    follow(page, "link", "all tags")
    expect(page).to_have_url(f"{base}/tags")
    follow(page, "button", "Log Out")
    expect(page).to_have_url(home)


@everywhere
def test_a_feed_leads_to_the_blog(place, writer):
    writer.write(body="Hello. See [all tags](/tags).")
    with urlopen(f"{place.url}/feed.xml", context=place.context) as answer:
        feed = answer.read().decode()
    urls = re.findall(r'https://localhost[^"&<\s]*', feed)
    assert f"{place.url}/tags" in urls
    assert [url for url in urls if not url.startswith(f"{place.url}/")] == []
    assert {urlopen(url, context=place.context).status for url in urls} == {200}


def noise(size):
    """A PNG of about as many bytes, but of few pixels: no program makes it smaller."""
    side, file = round((size / 3) ** 0.5), BytesIO()
    colours = os.urandom(3 * side * side)
    Image.frombytes("RGB", (side, side), colours).save(file, "PNG", compress_level=0)
    return file.getvalue()


def padded(size):
    """A PNG of 40 million pixels and as many bytes, most of which stand behind it."""
    file = BytesIO()
    Image.new("1", (8000, 5000)).save(file, "PNG")
    return file.getvalue().ljust(size, b"\0")


PICTURES = [
    (noise, 7 * MB, 200, "The picture is at the end of the text."),
    (padded, 15 * MB, 422, "This picture has 8000 by 5000 pixels; the blog takes at most 25"),
    (padded, 26 * MB, 422, "This file is larger than 24 MiB. Make the picture smaller first."),
    (padded, 34 * MB, 413, "That is more than the blog takes at once."),
]


def send_picture(person, make, size, status, sentence):
    """Whether the blog answers so to a new post's picture."""
    picture = FileStorage(BytesIO(make(size)), "picture.png")
    answer = person.send("/posts/new", body="A text.", action="picture", picture=picture)
    return (answer.status_code, sentence in answer.text) == (status, True)


@everywhere
@pytest.mark.parametrize("expected", PICTURES, ids=["taken", "wide", "large", "huge"])
def test_what_is_too_large_is_said_by_the_blog(place, writer, expected):
    assert send_picture(writer, *expected)


@both
def test_a_film_is_too_large_whatever_its_size(browser, place, writer, tmp_path):  # noqa: F811
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(60 * MB))
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(f"{place.url}/login?next=/posts/new")
    page.get_by_label("Username").fill(writer.name)
    page.get_by_label("Password").fill(PASSWORD)
    follow(page, "button", "Log in")
    page.get_by_label("Picture", exact=True).set_input_files(film)
    follow(page, "button", "Add picture")
    expect(page.get_by_role("main")).to_contain_text("That is more than the blog takes at once.")


@both
def test_who_comes_by_http_is_led_to_https(place):
    answer = ask(place.http_port, "GET", "/tags?a", headers={"Host": "localhost"})
    target = urlsplit(answer.getheader("Location"))
    assert answer.status in (301, 308)
    assert (target.scheme, target.hostname, target.path) == ("https", "localhost", "/tags")
    assert target.query == "a"


@everywhere
def test_a_log_in_leads_on_by_https(place, writer):
    """The address is a path, or begins with https; and the next visit is by https, too."""
    writer.send("/logout")
    answer = writer.send(
        f"/login?next={writer.at('/tags')}", username=writer.name, password=PASSWORD
    )
    assert answer.status_code == 303
    assert urljoin(f"{place.url}/", answer.location) == f"{place.url}/tags"
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert writer.get("/account").status_code == 200


@everywhere
def test_the_doctor_finds_that_the_number_of_proxies_is_right(place):
    result, status = doctor(place)
    assert ("Wrong" in result, "BLOG_PROXIES" in result, status) == (False, False, 0)


@both
def test_the_doctor_finds_that_no_proxy_is_declared(place):
    result, status = doctor(place, BLOG_PROXIES="0")
    assert "Risky: BLOG_URL is https, but BLOG_PROXIES is 0" in result
    assert status == 0


@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_the_doctor_finds_that_too_many_proxies_are_declared(name, tmp_path, certificate):
    with behind(tmp_path, name, "", certificate, BLOG_PROXIES="2") as place:
        result, status = doctor(place)
    assert "Wrong: BLOG_PROXIES is 2, but so many were never seen" in result
    assert status == 1


@each
def test_the_blog_is_told_by_the_proxy_alone_who_asks(name, tmp_path, certificate):
    forged = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "ftp",
        **{"X_Forwarded_For": "192.0.2.2", "X_Forwarded_Proto": "ftp", "X_Odd": "1"},
    }
    with echo() as blog, proxied(tmp_path, name, "", certificate, blog) as (port, _):
        context = ssl.create_default_context(cafile=certificate[0])
        request = Request(f"https://localhost:{port}/", headers=forged)
        with urlopen(request, context=context) as answer:
            told = {name.lower(): value for name, value in json.load(answer)}
    assert {name: value for name, value in told.items() if "_" in name} == {}
    assert told["x-forwarded-for"] == "127.0.0.1"
    assert told["x-forwarded-proto"] == "https"
    assert told["x-forwarded-host"].partition(":")[0] == "localhost"
    assert told["host"].partition(":")[0] == "localhost"


@contextmanager
def echo():
    """The port of a server that answers with the headers that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            sent = json.dumps(self.headers.items()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@both
@pytest.mark.parametrize("path", ["/privacy", "/static/style.css", "/feed.xml"])
def test_a_text_is_compressed_from_its_first_use_on(place, writer, path):
    """The blog itself compresses what it is asked for twice."""
    writer.write(body="word " * 500)
    answer = Person(place).get(path, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert len(gzip.decompress(answer.data)) > len(answer.data)
    etag = {"If-None-Match": answer.headers["ETag"], "Accept-Encoding": "gzip"}
    assert Person(place).get(path, headers=etag).status_code == 304


def test_a_token_that_is_compressed_is_another_one_each_second(ann):
    """To guess one by the length of pages takes many pages; to that, each begins anew."""
    tokens = []
    for query in ("token", "tokem"):
        page = ann.get(f"/search?q={query}").text
        tokens.append(re.search(r'name="csrf_token" value="([^"]+)"', page)[1])
        time.sleep(1.1)
    signatures = [token.rpartition(".")[2] for token in tokens]
    assert len(set(signatures)) == 2


@contextmanager
def slow_clients(place):
    """Clients that have sent a part of their requests: half of them of the head."""
    url = urlsplit(place.url)
    with ExitStack() as stack:
        for number in range(SLOW):
            plain = socket.create_connection((url.hostname, url.port))
            client = place.context.wrap_socket(plain, server_hostname=url.hostname)
            stack.enter_context(client)
            head = f"POST {url.path}/login HTTP/1.1\r\nHost: localhost\r\n"
            head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n"
            client.sendall(f"{head}\r\nuser".encode() if number % 2 else head.encode())
        yield


@each
def test_the_blog_gets_no_request_before_it_is_whole(name, tmp_path, certificate):
    with socket.create_server(("127.0.0.1", 0)) as blog:
        blog.settimeout(1)
        upstream = blog.getsockname()[1]
        with proxied(tmp_path, name, "", certificate, upstream) as (port, _):
            context = ssl.create_default_context(cafile=certificate[0])
            place = Place(f"https://localhost:{port}", context)
            with slow_clients(place), pytest.raises(TimeoutError):
                blog.accept()


def visiting(place, ends, statuses, writes):
    """Let an author read, and write if that may be, until the end; every status."""
    ann = Person(place, "ann")
    ann.log_in()
    while not ends.is_set():
        statuses.append(ann.get("/posts/1/a-title").status_code)
        if writes:
            body = str(len(statuses))
            statuses.append(ann.send("/posts/1/comments", body=body).status_code)


def restart(servers, starts):
    """End one server after the other, and start another in its place."""
    for server, begin in zip(servers, starts, strict=True):
        time.sleep(0.5)  # some visits in between
        server.terminate()
        server.communicate(timeout=15)
        begin()


@pytest.mark.parametrize(
    ("name", "count", "seen"),
    [("nginx", 2, {200, 303}), ("newest caddy", 2, {200, 303}), ("caddy", 1, {200})],
)
def test_a_restart_stops_nobody(name, count, seen, tmp_path, certificate):
    """Behind nginx with two servers, behind Caddy with one that comes back."""
    ports, statuses, ends = [free_port() for _ in range(count)], [], threading.Event()
    context = ssl.create_default_context(cafile=certificate[0])
    with proxied(tmp_path, name, "", certificate, *ports) as (port, _), ExitStack() as stack:
        url = f"https://localhost:{port}"
        settings = QUICK | {"BLOG_URL": url, "BLOG_RATE_LIMITS": "off"}
        start = [running(tmp_path, at, BLOG_PORT=str(at), **settings) for at in [*ports, *ports]]
        servers = [stack.enter_context(server) for server in start[:count]]
        place = Place(url, context)
        Person(place, "ann").sign_up().write()
        visitor = threading.Thread(target=visiting, args=[place, ends, statuses, 303 in seen])
        visitor.start()
        restart(servers, [partial(stack.enter_context, server) for server in start[count:]])
        ends.set()
        visitor.join()
        comments = Person(place).get("/posts/1/a-title").text.count('id="comment-')
    assert set(statuses) == seen
    assert comments == statuses.count(303)
