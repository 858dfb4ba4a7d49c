"""How fast the blog is, beside the least that its server and Flask can do with the same pages.

All servers run on one core and the client, wrk, on another. Every round asks every row of the table
in turn, so that what else the machine does falls on all of them; the table has the medians of the
rounds, and of each round's ratios.
"""

import argparse
import http.client
import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_plus

import sqlalchemy as sa

from app import create_app
from bench import growth, servers
from core.database import db

NEEDED = {"wrk": "wrk", "taskset": "util-linux", "timeout": "coreutils"}
CLIENTS = 16  # connections, each of which asks again when it has its answer
POSTS = 10  # on the home page; the comments go to an older one, which no row shows
COMMENTS = 10  # under the newest
SHARES = (100, 1_000)  # in mixed use, of which requests is one a comment
PASSWORD = "correct horse 9"
SETTINGS = {"SECRET_KEY": "bench", "RATE_LIMITS": "off"}
LINK = re.compile(r'<h2 dir="auto"><a href="([^"]+)"')
TOKEN = re.compile(r'name="csrf_token"[^>]* value="([^"]+)"')
TEXT = "The bakery at the corner opens before the first train and closes when all is sold. "
BARE, BARE_POST = "bare WSGI: home", "bare WSGI: post"
FLASK, FLASK_POST, HELLO = "Flask: home", "Flask: post", "Flask: hello"
TUTORIAL = "the Flask tutorial's blog: home"
RAW = "raw sqlite3: a row"
READER = b'">person15</a>'  # who is logged in
NONE = " | \N{EN DASH}"  # in a cell
INSERT = "INSERT INTO comments (post_id, author_id, body, created_at) VALUES (1, ?, ?, ?)"


class Blog(NamedTuple):
    """A filled blog: its database, its newest post, a reader's cookie, and who comments."""

    url: str
    post: str
    cookie: dict
    people: list  # cookie, CSRF token, cookie, CSRF token, …


class Row(NamedTuple):
    """A line of the table: what is asked for it, and how the answer is known to be right."""

    name: str
    port: int | None  # None: its server is missing
    path: str
    beside: str = ""  # the row whose rate it is compared with
    headers: dict | None = None
    status: int = 200
    shows: bytes = b""  # in the page
    page: bytes | None = None  # the whole of it
    people: list | None = None  # who comment there
    database: str = ""  # its URL; of a row without a port, SQLite's, for plain INSERTs
    share: int = 0  # of mixed use: every so many-th request is a comment
    posts: list | None = None  # which visitors read there


def samples():
    """Titles and bodies: the blog's sample posts, over and over."""
    sample = servers.ROOT / "extras" / "demo.toml"
    posts = tomllib.loads(sample.read_text(encoding="utf-8"))["posts"]
    chosen = [posts[number % len(posts)] for number in range(POSTS + 1)]
    return [(f"{post['title']} {number}", post["body"]) for number, post in enumerate(chosen)]


def token(client):
    """The CSRF token of a client's session."""
    return TOKEN.search(client.get("/login").text)[1]


def send(client, path, **fields):
    """Send a form; where it leads."""
    answer = client.post(path, data=fields | {"csrf_token": token(client)})
    assert answer.status_code == 303, answer.text
    return answer.location


def fill(url, folder):
    """Fill an empty database through the blog's own forms."""
    app = create_app(
        folder, **SETTINGS, DATABASE_URL=url, PASSWORD_HASH="scrypt:1024:8:1", CACHE_MAX=0
    )
    clients = [app.test_client() for _ in range(CLIENTS)]
    for number, client in enumerate(clients):
        fields = {"username": f"person{number}", "password": PASSWORD, "confirm": PASSWORD}
        send(client, "/signup", **fields)
    for title, body in samples():
        post = send(clients[0], "/posts/new", title=title, body=body, action="publish")
    for number, client in enumerate(clients[:COMMENTS]):
        send(client, f"/posts/{post.split('/')[2]}/comments", body=f"{TEXT}{number}")
    people, name = [], app.config["SESSION_COOKIE_NAME"]
    for client in clients:
        # The token comes first: a cookie without it would be another after each page.
        words = token(client), client.get_cookie(name).value
        people += [f"{name}={words[1]}", words[0]]
    with app.app_context():
        db.engine.dispose()
    return Blog(url, post, {"Cookie": people[-2]}, people)


def ask(port, path, headers):
    """The status, the headers and the body of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def load(row, seconds):
    """The rate, median and 99th percentile of a page; a wrong answer ends the benchmark."""
    status, _, body = ask(row.port, row.path, row.headers)
    if status != row.status or row.shows not in body or row.page not in (None, body):
        sys.exit(f"{row.name}: a wrong answer, status {status}:\n{body[:2000].decode()}")
    return wrk(row, seconds)[1:]


def comment(row, seconds, number):
    """The same of comments, each of which is a new row when it is acknowledged."""
    before = count_comments(row.database)
    sent, *result = wrk(row, seconds, quote_plus(f"{TEXT}{number} "), *row.people)
    kept = count_comments(row.database) - before
    # Those that wrk did not wait for at its end may be there, too.
    if not sent <= kept <= sent + CLIENTS:
        sys.exit(f"{row.name}: {sent:.0f} were acknowledged, but {kept} are there.")
    return result


def count_comments(url):
    """The number of comments in the database."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return connection.scalar(sa.text("SELECT count(*) FROM comments"))


def wrk(row, seconds, *words):
    """How many answers came in one run of wrk, and its result; an error ends the benchmark.

    wrk is not what is slow here, also not with Lua: it sends more than ten times as many requests
    in the rows of bare WSGI as there are comments.
    """
    bounds = f"taskset -c {servers.core(servers.CLIENT)} timeout {seconds + 30}"
    script = Path(__file__).with_name("wrk.lua")
    command = f"{bounds} wrk -t1 -c{CLIENTS} -d{seconds}s --timeout 10s -s {script}".split()
    for header in (row.headers or {}).items():
        command += ["-H", ": ".join(header)]
    command += [f"http://127.0.0.1:{row.port}{row.path}", "--", *words]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answers, microseconds, errors, *times = map(float, output.split("RESULT")[1].split())
    if errors or not answers:
        sys.exit(f"{row.name}: {errors:.0f} errors:\n{output}")
    return answers, answers / microseconds * 1e6, *(time / 1000 for time in times)


def use(row, seconds, number):
    """The results of the pages and of the comments in mixed use."""
    time.sleep(1)  # for comments that wrk did not wait for
    before = count_comments(row.database)
    people = list(zip(row.people[::2], row.people[1::2], strict=True))
    given = {"port": row.port, "seconds": seconds, "share": row.share, "posts": row.posts}
    given |= {"people": people, "text": f"{TEXT}{row.share} {number}"}
    bounds = f"taskset -c {servers.core(servers.CLIENT)} timeout {seconds + 30}".split()
    command = [*bounds, sys.executable, "-m", "bench.mixed"]
    options = {"check": True, "stdout": subprocess.PIPE, "text": True, "cwd": servers.ROOT}
    output = subprocess.run(command, input=json.dumps(given), **options).stdout
    results, _, acknowledged = output.strip().rpartition(" ")
    kept = count_comments(row.database) - before
    if kept != int(acknowledged):
        sys.exit(f"{row.name}: {acknowledged} were acknowledged, but {kept} are there.")
    return json.loads(results)


def insert(row, seconds):
    """The same of one thread that inserts comments into a copy of the database, one a COMMIT."""
    source, cores = Path(row.database.removeprefix("sqlite:///")), os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        copy = f"{folder}/copy.db"
        with closing(sqlite3.connect(source)) as database:
            database.execute("VACUUM INTO ?", [copy])
        os.sched_setaffinity(0, {servers.core(servers.SERVERS)})
        times = []
        with closing(sqlite3.connect(copy, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            start = now = time.perf_counter()
            while now < start + seconds:
                author, body = len(times) % CLIENTS + 1, f"{TEXT}0 {len(times):08}"
                database.execute(INSERT, (author, body, "2023-10-13 09:30:00.000000"))
                times.append(-now + (now := time.perf_counter()))
        os.sched_setaffinity(0, cores)
    centiles = statistics.quantiles(times, n=100)
    return len(times) / (now - start), 1000 * centiles[49], 1000 * centiles[98]


def blog_rows(name, blog, port, beside):
    """The main rows of a blog, or of one whose server is missing."""
    blog = blog or Blog("", "", {}, [])
    reader = {"headers": blog.cookie, "shows": READER}
    new = "/posts/1/comments"
    return [
        Row(f"{name}: home", port, "/", beside[0], shows=b"10</a></h2>"),
        Row(f"{name}: post", port, blog.post, beside[1], shows=TEXT.strip().encode()),
        Row(f"{name}: home, logged in", port, "/", HELLO, **reader),
        Row(f"{name}: post, logged in", port, blog.post, HELLO, **reader),
        Row(f"{name}: a comment", port, new, RAW, people=blog.people, database=blog.url),
        *mixed_rows(name, blog, port),
    ]


def mixed_rows(name, blog, port):
    """Mixed use, each with a row for its comments."""
    posts = LINK.findall(ask(port, "/", {})[2].decode())[5:8] if port else []
    options = {"people": blog.people, "database": blog.url, "posts": posts}
    rows = []
    for share in SHARES:
        mixed = f"{name}: mixed, every {share:,}th a comment"
        rows += [
            Row(f"{mixed}: pages", port, "/", TUTORIAL, share=share, **options),
            Row(f"{mixed}: comments", None, ""),
        ]
    return rows


class Run:
    """The servers of one benchmark, which end with the stack, and the rows that ask them."""

    def __init__(self, stack, folder, seconds, before):
        self.stack, self.folder, self.seconds, self.before = stack, folder, seconds, before
        self.processes = {}  # of Granian, by their names

    def serve(self, name, app, **options):
        """The port of a server of its own."""
        options = {"BENCH_FOLDER": str(self.folder)} | options
        server = servers.granian(app, self.folder / f"{name}.log", self.seconds, **options)
        self.processes[name], port = self.stack.enter_context(server)
        return port

    def serve_blog(self, name, blog, **settings):
        """The port of a server of that blog."""
        settings |= SETTINGS | {"DATABASE_URL": blog.url}
        settings = {f"BLOG_{key}": value for key, value in settings.items()}
        return self.serve(name, "bench.opponents:blog", **settings)

    def rows(self):
        """The lines of the table, in their order."""
        blog = fill(f"sqlite:///{self.folder}/blog.db", str(self.folder))
        port = self.serve_blog("the blog on SQLite", blog)
        _, headers, home = ask(port, "/", {})
        _, _, post = ask(port, blog.post, {})
        (self.folder / "pages").mkdir()
        for name, page in (("home", home), ("post", post)):
            (self.folder / "pages" / name).write_bytes(page)
        tagged, tag = (port, {"If-None-Match": headers["ETag"]}) if headers["ETag"] else (None, {})
        return [
            *self.opponents(home, post),
            *blog_rows("blog", blog, port, (BARE, BARE_POST)),
            Row(RAW, None, "", database=blog.url),
            Row("blog: home, 304", tagged, "/", BARE, tag, status=304),
            *self.first_renders(blog, home, post),
            self.tutorial(),
            *self.on_postgresql(),
            *self.rows_before(),
        ]

    def rows_before(self):
        """The main rows of the version before, each beside the one of this version."""
        if not self.before:
            return []
        rows = []
        log = self.folder / "postgresql before.log"
        postgresql = self.stack.enter_context(servers.postgresql(log, self.seconds))
        for name, url in (
            ("blog", f"sqlite:///{self.folder}/before.db"),
            ("blog on PostgreSQL", postgresql),
        ):
            blog = self.fill_before(url)
            settings = SETTINGS | {"DATABASE_URL": url}
            options = {f"BLOG_{key}": value for key, value in settings.items()}
            app = "bench.opponents:blog"
            port = self.serve(f"{name} before", app, folder=self.before, **options)
            found = blog_rows(f"before, {name}", blog, port, ("", ""))
            rows += [row._replace(beside=row.name.removeprefix("before, ")) for row in found]
        return rows

    def fill_before(self, url):
        """Fill an empty database through the forms of the version before."""
        code = "import json, sys; from bench.__main__ import fill; "
        code += "print(json.dumps(fill(*sys.argv[1:])))"
        command = [sys.executable, "-c", code, url, str(self.folder)]
        options = {"check": True, "stdout": subprocess.PIPE, "text": True, "cwd": self.before}
        return Blog(*json.loads(subprocess.run(command, timeout=120, **options).stdout))

    def opponents(self, home, post):
        """Those that answer with the same bytes."""
        bare, flask = (self.serve(name, f"bench.opponents:{name}") for name in ("bare", "flask"))
        return [
            Row(BARE, bare, "/home", page=home),
            Row(BARE_POST, bare, "/post", page=post),
            Row(FLASK, flask, "/home", BARE, page=home),
            Row(FLASK_POST, flask, "/post", BARE_POST, page=post),
            Row(HELLO, flask, "/", BARE, page=b"Hello, World!"),
        ]

    def first_renders(self, blog, home, post):
        """The pages without their cache."""
        port = self.serve_blog("the blog without its cache", blog, CACHE_MAX="0")
        name = "blog: post, logged in, first render"
        return [
            Row("blog: home, first render", port, "/", TUTORIAL, page=home),
            Row("blog: post, first render", port, blog.post, HELLO, page=post),
            Row(name, port, blog.post, HELLO, blog.cookie, shows=READER),
            Row("blog: search, first render", port, "/search?q=blog", HELLO, shows=b"<mark>"),
        ]

    def tutorial(self):
        """The blog of Flask's tutorial with the same posts; an empty row where one is offline."""
        (self.folder / "tutorial").mkdir()
        source = servers.tutorial(self.folder / "tutorial", samples()[1:])
        if not source:
            print("Flask's source could not be downloaded: its blog is left out.", file=sys.stderr)
        name, app = "the tutorial's blog", "flaskr:create_app"
        port = self.serve(name, app, folder=source) if source else None
        return Row(TUTORIAL, port, "/", HELLO, shows=samples()[-1][0].encode())

    def on_postgresql(self):
        """The main rows on the other database; empty ones where its programs are missing."""
        log = self.folder / "postgresql.log"
        url = self.stack.enter_context(servers.postgresql(log, self.seconds))
        blog = fill(url, str(self.folder)) if url else None
        port = self.serve_blog("the blog on PostgreSQL", blog) if url else None
        return blog_rows("blog on PostgreSQL", blog, port, (FLASK, FLASK_POST))


def measure(rows, rounds, seconds):
    """The results of each row by its name, a round after the other."""
    results = {row.name: [] for row in rows}
    for number in range(rounds):
        for row in rows:
            if row.port and row.share:
                result, comments = use(row, seconds, number)
                results[row.name.replace(": pages", ": comments")].append(comments)
            elif row.port:
                is_comment = row.people is not None
                result = comment(row, seconds, number) if is_comment else load(row, seconds)
            elif row.database:
                result = insert(row, seconds)
            else:
                continue
            results[row.name].append(result)
            print(f"round {number + 1}: {row.name}: {result[0]:,.0f}", file=sys.stderr)
    return results


def table(rows, results):
    """The lines of a Markdown table."""
    yield "| | a second | in the rounds | median, ms | p99, ms | p99 / median | beside |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for row in rows:
        found, others = results[row.name], results.get(row.beside, [])
        if not found:
            yield f"| {row.name}{NONE * 6} |"
            continue
        rate, median, p99 = map(statistics.median, zip(*found, strict=True))
        rates = [result[0] for result in found]
        ratios = [own / other[0] for own, other in zip(rates, others, strict=False)]
        beside = f"{statistics.median(ratios):.2f} times {row.beside}" if ratios else ""
        yield (
            f"| {row.name} | {rate:,.0f} | {min(rates):,.0f} to {max(rates):,.0f} "
            f"| {median:.2f} | {p99:.2f} | {p99 / median:.1f} | {beside} |"
        )


def machine():
    """The date, the machine and the versions that the figures hold for."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("flask", "granian")]
    cores = len(os.sched_getaffinity(0))
    return (
        f"{date.today()}, {model[1] if model else platform.machine()}, {cores} cores; Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(packages)}"
    )


def asked():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="for each row, in each round")
    text = "the folder of another version, which is measured in the same rounds"
    parser.add_argument("--before", type=Path, help=text)
    scale = {"nargs": "?", "const": growth.SIZES[-1], "choices": growth.SIZES}
    text = "how each page's time grows instead, from 1,000 posts to so many"
    parser.add_argument("--scale", type=int, help=text, **scale)
    return parser.parse_args()


def compare(folder, rounds, seconds, before):
    """Start the servers, measure them in turn, print the table."""
    for program, package in NEEDED.items():
        if not shutil.which(program):
            sys.exit(f"{program} is missing; on Debian: apt-get install {package}")
    with ExitStack() as stack:
        run = Run(stack, folder, 300 + rounds * 60 * (seconds + 5), before)
        rows = run.rows()
        print(*table(rows, measure(rows, rounds, seconds)), "", machine(), sep="\n")
        used = [f"{name} {servers.memory(of):.0f} MiB" for name, of in run.processes.items()]
        print("\nResident memory after that:", "; ".join(used))


def main():
    """Measure what is asked for, without the settings of a blog of yours."""
    options = asked()
    for name in [name for name in os.environ if name.startswith("BLOG_")]:
        del os.environ[name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and so stop the servers
    # Not /tmp, which may be memory, where a COMMIT costs nothing.
    with tempfile.TemporaryDirectory(prefix="bench", dir="/var/tmp") as folder:
        if options.scale:
            growth.measure(Path(folder), options.scale)
        else:
            compare(Path(folder), options.rounds, options.seconds, options.before)


if __name__ == "__main__":
    main()
