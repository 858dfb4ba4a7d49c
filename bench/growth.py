"""How the time of each page grows with the blog, on SQLite and without a cache."""

import itertools
import os
import re
import statistics
import subprocess
import sys
import time

from app import create_app

SIZES = [1_000, 10_000, 100_000, 1_000_000]  # posts, and as many comments
ROUNDS, SECONDS = 41, 10  # at most, for a page
MINUTES = 5  # from post to post, by `flask demo`
PASSWORD = "correct horse 9"


def made(folder, size):
    """A visitor and the logged-in owner of a blog of that size."""
    settings = {"SECRET_KEY": "bench", "DATABASE_URL": f"sqlite:///{folder}/{size}.db"}
    environment = {f"BLOG_{name}": value for name, value in settings.items()}
    environment |= os.environ | {"BENCH_FOLDER": str(folder)}
    print(f"{size:,} posts and comments:", flush=True)
    start = time.monotonic()
    flask = [sys.executable, *"-m flask --app bench.opponents:blog demo".split()]
    command = [*flask, "--posts", str(size), "--comments", str(size)]
    subprocess.run(command, check=True, env=environment, timeout=7200)
    print(f"{time.monotonic() - start:.0f} s\n", flush=True)
    app = create_app(str(folder), **settings, CACHE_MAX=0, RATE_LIMITS="off")
    visitor, owner = app.test_client(), app.test_client()
    link = app.test_cli_runner().invoke(args=["reset-link", "abcxyz"]).output.strip()
    for path in (link, "/login"):
        token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', owner.get(path).text)[1]
        fields = {"username": "abcxyz", "password": PASSWORD, "confirm": PASSWORD}
        answer = owner.post(path, data=fields | {"csrf_token": token})
        assert answer.status_code == 303, answer.text
    return visitor, owner


def paths(visitor, size):
    """Every kind of page, by name; the deep ones are half-way down."""
    middle = size // 2
    newest = re.search(r"before=([0-9]+)", visitor.get("/").text)[1]
    at = int(newest) - middle * MINUTES * 60_000_000  # microseconds
    return {
        "home": "/",
        "home, half-way": f"/?before={at}-{middle}",
        "post": visitor.get(f"/posts/{middle}/").location,
        "author": "/users/abcxyz",
        "tag": "/tags/bicycle",
        "tags": "/tags",
        "archive": "/archive",
        "archive of this year": f"/archive?year={time.gmtime().tm_year}",
        "feed": "/feed.xml",
        "feed of a tag": "/tags/bicycle/feed.xml",
        "search, in every post": "/search?q=e",
        "search, a common word": "/search?q=bicycle",
        "search, a rare word": "/search?q=kafka",
        "search, two words": "/search?q=bicycle+harbour",
        "search, a phrase": "/search?q=%22bicycle+harbour%22",
        "search, no such word": "/search?q=zebra",
        "sitemap": "/sitemap.xml",
        "sitemap, first part": "/sitemap-1.xml",
    }


def timed(clients, addresses):
    """The medians in milliseconds of a page of each blog, asked in turn."""
    rounds = []
    until = time.perf_counter() + SECONDS
    while len(rounds) < ROUNDS and time.perf_counter() < until:
        times = [time.perf_counter()]
        for client, address in zip(clients, addresses, strict=True):
            answer = client.get(address)
            times.append(time.perf_counter())
            assert answer.status_code == 200, (address, answer.status)
        rounds.append([1000 * (end - start) for start, end in itertools.pairwise(times)])
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def measure(folder, largest):
    """Fill the blogs up to that size, ask them in turn, print the table."""
    sizes = [size for size in SIZES if size <= largest]
    visitors, owners = zip(*(made(folder, size) for size in sizes), strict=True)
    pages = [paths(*pair) for pair in zip(visitors, sizes, strict=True)]
    print("| page |", " | ".join(f"{size:,} posts, ms" for size in sizes), "|")
    print(f"|---{'|---:' * len(sizes)}|")
    for clients, suffix in ((visitors, ""), (owners, ", logged in")):
        for name in pages[0]:
            first, *others = timed(clients, [of[name] for of in pages])
            cells = [f"{first:.2f}", *(f"{time:.2f} ({time / first:.2f})" for time in others)]
            print(f"| {name}{suffix} |", " | ".join(cells), "|", flush=True)
    print("\nThe archive lists 500 titles on a page; a part of the sitemap, 2,000 addresses.")
