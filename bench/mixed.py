"""Mixed use: visitors and logged-in people read, and every so often one of them comments.

Of the pages, every tenth is the home page for one of the people; visitors ask for the home page six
times in nine, and for each of three older posts once. wrk cannot time pages and comments apart, so
this is a client of our own: one thread that waits for its connections.
"""

import json
import re
import selectors
import socket
import statistics
import sys
import time
from urllib.parse import quote_plus

CLIENTS = 16  # connections, each of which asks again when it has its answer
LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


class Connection:
    """A connection with its request in flight."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.received, self.is_comment, self.asked_at = b"", False, 0.0

    def ask(self, request, is_comment):
        """Send a request."""
        self.received, self.is_comment, self.asked_at = b"", is_comment, time.perf_counter()
        self.socket.sendall(request)

    def is_answered(self):
        """Read on; whether the answer is whole."""
        part = self.socket.recv(1 << 18)
        if not part:
            sys.exit("The server closed a connection.")
        self.received += part
        head, end, body = self.received.partition(b"\r\n\r\n")
        return bool(end) and len(body) >= int(LENGTH.search(head)[1])


def requests(share, posts, people, text):
    """The bytes of each request and whether it is a comment, on and on."""

    def get(path, *headers):
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]
        return "\r\n".join(lines).encode()

    visitors = [get("/")] * 6 + [get(path) for path in posts]
    readers = [get("/", f"Cookie: {cookie}") for cookie, _ in people]
    number = 0
    while True:
        number += 1
        if number % share == 0:
            cookie, token = people[number // share % len(people)]
            body = f"csrf_token={token}&body={quote_plus(f'{text} {number:08}')}"
            head = f"POST /posts/1/comments HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n"
            yield f"{head}{FORM}Content-Length: {len(body)}\r\n\r\n{body}".encode(), True
        elif number % 10 == 0:
            yield readers[number // 10 % len(readers)], False
        else:
            yield visitors[number % len(visitors)], False


def measure(port, seconds, share, posts, people, text):
    """Ask for so many seconds; the times of pages and of comments, in milliseconds."""
    pages, comments = [], []
    coming = requests(share, posts, people, text)
    with selectors.DefaultSelector() as selector:
        for _ in range(CLIENTS):
            connection = Connection(port)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.ask(*next(coming))
        end, waiting = time.perf_counter() + seconds, CLIENTS
        while waiting:
            for key, _ in selector.select(10):
                connection = key.data
                if not connection.is_answered():
                    continue
                now = time.perf_counter()
                expected = b" 303 " if connection.is_comment else b" 200 "
                if expected not in connection.received[:15]:
                    sys.exit(f"A wrong answer:\n{connection.received[:2000].decode()}")
                times = comments if connection.is_comment else pages
                times.append(1000 * (now - connection.asked_at))
                if now < end:
                    connection.ask(*next(coming))
                else:
                    waiting -= 1
                    selector.unregister(connection.socket)
                    connection.socket.close()
    return pages, comments


def summary(times, seconds):
    """The rate, median and 99th percentile."""
    centiles = statistics.quantiles(times, n=100)
    return len(times) / seconds, centiles[49], centiles[98]


if __name__ == "__main__":
    given = json.load(sys.stdin)
    found = measure(**given)
    print(json.dumps([summary(times, given["seconds"]) for times in found]), len(found[1]))
