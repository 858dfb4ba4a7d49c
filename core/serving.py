"""`flask serve`, `flask reindex`, and /healthz for monitors."""

import os
import socket
import subprocess
import sys

import click
import sqlalchemy as sa
from flask import Blueprint, Response, current_app, request

from core.database import db
from core.plugins import Blog, current_blog
from core.security import skip_cache
from core.urls import HEALTH

BACKLOG = 8  # requests that wait, as a multiple of the threads; browsers open six connections
PREFIX = "X-Forwarded-Prefix"  # ignored; sent back, so that `flask doctor` sees what arrived
# Few arenas, and large blocks given back: glibc would keep 200 MB of what pictures took.
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072"}
STOP_SECONDS_MAX = 3  # that requests in flight get when the server stops

pages = Blueprint("serving", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Register the page and the command."""
    app.register_blueprint(pages)


@pages.get(HEALTH, endpoint="health")
def show_health() -> Response:
    """200 if the database answers, else 503."""
    db.session.execute(sa.select(1))
    skip_cache()
    answer = Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})
    if PREFIX in request.headers:
        answer.headers[PREFIX] = request.headers[PREFIX]
    return answer


@pages.cli.command("reindex")
def reindex() -> None:
    """Rebuild what extras make from posts, such as the search index."""
    for name, extra in current_blog().extras.items():
        if hasattr(extra, "rebuild"):
            extra.rebuild()
            click.echo(f"Rebuilt: {name}.")


@pages.cli.command("serve")
@click.option("--host", help="The address or name to listen at; BLOG_HOST, 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65535), help="BLOG_PORT, PORT, 8000.")
def serve(host: str | None, port: int | None) -> None:
    """Serve the blog with Granian until Ctrl-C."""
    config = current_app.config
    host, port = host or config["HOST"], port or config["PORT"]
    address = _free_address(host, port)
    click.echo(f"The blog is at http://{_netloc(host, port)}: Ctrl-C stops it.")
    threads = config["THREADS"]
    words = [sys.executable, "-m", "granian", "--interface", "wsgi", "wsgi:app"]
    words += ["--blocking-threads", str(threads), "--backpressure", str(threads * BACKLOG)]
    words += ["--workers-kill-timeout", str(STOP_SECONDS_MAX), "--respawn-failed-workers"]
    # Without its warning that there are many threads: most of them wait for the database.
    words += ["--host", address, "--port", str(port), "--log-level", "error"]
    db.engine.dispose()
    os.environ.update(MALLOC | os.environ)
    if os.name == "posix":
        sys.stdout.flush()
        os.chdir(current_app.root_path)
        os.execv(sys.executable, words)
    click.get_current_context().exit(subprocess.call(words, cwd=current_app.root_path))


def _free_address(host: str, port: int) -> str:
    """The numeric address of the host, where the port is free; else ClickException."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, (address, *_) = found[0]
        _reserve(f"\0blog {address} {port}")
        # At "::", Granian listens at all addresses of IPv4, too.
        is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        at = (str(address), port)
        socket.create_server(at, family=family, dualstack_ipv6=is_dual).close()
    except (socket.gaierror, UnicodeError) as error:
        advice = "BLOG_HOST is where to listen, such as 127.0.0.1, or 0.0.0.0 for all addresses"
        raise click.ClickException(f"The host {host!r} has no address. {advice}.") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sentence = f"{_netloc(host, port)} is taken or not of this machine ({reason})"
        raise click.ClickException(f"{sentence}. Try another: flask serve --port 8080") from error
    return str(address)


def _reserve(name: str) -> None:
    """Bind an abstract Unix socket for as long as this process lives; OSError if one is bound.

    Two blogs that start at the same moment both find the port free, and Granian would share it.
    """
    if sys.platform != "linux":  # others have no abstract sockets
        return
    reservation = socket.socket(socket.AF_UNIX)
    reservation.bind(name)
    # Granian takes this process over, and the socket with it.
    os.set_inheritable(reservation.detach(), True)


def _netloc(host: str, port: int) -> str:
    """The host and the port as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
