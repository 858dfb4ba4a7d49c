"""How the time of each page grows with the blog: 1,000 posts against 100,000, on SQLite.

`.venv/bin/python bench/growth.py [posts] [comments]` fills two blogs, asks both in turn for every
kind of page, without a cache, and prints the medians in milliseconds and their ratios.
"""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from app import create_app

ROUNDS = 41
SMALL = (1_000, 10_000)  # posts, comments
PASSWORD = re.compile(r"password (\S+)")


def made(folder: str, posts: int, comments: int):
    """A visitor and a logged-in author of a blog of that size."""
    app = create_app(folder, SECRET_KEY="x", DATABASE_URL=f"sqlite:///{folder}/blog.db")
    start = time.monotonic()
    output = (
        app.test_cli_runner()
        .invoke(args=["demo", "--posts", str(posts), "--comments", str(comments)])
        .output
    )
    print(f"{posts:,} posts and {comments:,} comments in {time.monotonic() - start:.0f} s")
    visitor, author = app.test_client(), app.test_client()
    token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', author.get("/login").text)[1]
    fields = {"username": "abcxyz", "password": PASSWORD.search(output)[1], "csrf_token": token}
    assert author.post("/login", data=fields).status_code == 303
    return visitor, author


def paths(visitor, posts: int) -> dict[str, str]:
    """Every kind of page, by name; the deep ones are half-way down."""
    middle = posts // 2
    key = re.search(r"before=([^\"&]+)", visitor.get("/").text)[1]
    at = int(key.split("-")[0]) - middle * 300_000_000  # five minutes from post to post
    return {
        "home": "/",
        "home, half-way": f"/?before={at}-{middle}",
        "post": f"/posts/{middle}/",
        "author": "/users/abcxyz",
        "tag": "/tags/bicycle",
        "tags": "/tags",
        "archive": "/archive",
        "feed": "/feed.xml",
        "feed of a tag": "/tags/bicycle/feed.xml",
        "search, in every post": "/search?q=e",
        "search, a common word": "/search?q=bicycle",
        "search, a rare word": "/search?q=kafka",
        "search, two words": "/search?q=bicycle+harbour",
        "search, a phrase": "/search?q=%22bicycle+harbour%22",
        "search, no such word": "/search?q=zebra",
    }


def main() -> None:
    """Fill both blogs, ask them in turn, print the table."""
    posts, comments = map(int, sys.argv[1:3] or ("100000", "1000000"))
    with tempfile.TemporaryDirectory() as folder:
        small, large = made(f"{folder}/small", *SMALL), made(f"{folder}/large", posts, comments)
        rows = {}
        for who in (0, 1):
            both = [paths(blog[0], size) for blog, size in ((small, SMALL[0]), (large, posts))]
            for name in both[0]:
                times = ([], [])
                for _ in range(ROUNDS):
                    for blog, path, spent in zip((small, large), both, times, strict=True):
                        start = time.perf_counter()
                        answer = blog[who].get(path[name], follow_redirects=True)
                        spent.append(time.perf_counter() - start)
                        assert answer.status_code == 200, (name, answer.status_code)
                label = f"{name}{', logged in' if who else ''}"
                rows[label] = [1000 * statistics.median(spent) for spent in times]
    print(f"\n| page | {SMALL[0]:,} posts, ms | {posts:,} posts, ms | ratio |\n|---|---|---|---|")
    for name, (few, many) in rows.items():
        print(f"| {name} | {few:.2f} | {many:.2f} | {many / few:.2f} |")


if __name__ == "__main__":
    main()
