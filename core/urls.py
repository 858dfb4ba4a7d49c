"""Addresses: the path under which the blog lives, hosts, slashes at the end, and whole URLs."""

from collections.abc import Iterable
from urllib.parse import quote, urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import current_app, request
from werkzeug.wrappers import Response

from core.plugins import Blog

HEALTH = "/healthz"  # monitors ask for it by whatever name they reach the server
IN_PATH = "/!$&'()*+,;=:@~"  # what needs no quoting there


def init_app(app: Blog) -> None:
    """Wrap all that has plugged in, so that the page cache sees one address for each page."""
    app.add_template_global(absolute)
    wrapped = Addresses(app.wsgi_app, app.config["URL"])
    app.wsgi_app = wrapped  # type: ignore[assignment,method-assign]  # Flask's way


def absolute(path: str) -> str:
    """The whole URL of a path that `url_for` made."""
    url = urlsplit(current_app.config["URL"] or request.host_url)
    return f"{url.scheme}://{url.netloc}{path}"


def normal_host(host: str) -> str:
    """The host of a request, and its port, without case and a final dot."""
    return host.lower().replace(".:", ":").removesuffix(".")


def mount(environ: WSGIEnvironment, root: str) -> None:
    """Make the root SCRIPT_NAME, and take it off the path where it is there."""
    mounted = environ.get("SCRIPT_NAME", "")
    if root == mounted == "":
        return
    whole = mounted + environ.get("PATH_INFO", "")
    if len(mounted) <= len(root) and f"{whole}/".startswith(f"{root}/"):
        environ["PATH_INFO"] = whole[len(root) :] or "/"
    environ["SCRIPT_NAME"] = root


class Addresses:
    """A WSGI middleware that tells the app where it is, and redirects from slashes at the end.

    Where BLOG_URL is set, it alone says under which path the blog lives, whether the proxy in front
    takes that path off or not, and whatever the server says.
    """

    def __init__(self, app: WSGIApplication, url: str | None) -> None:
        self.app = app
        parts = urlsplit(url or "")
        self.host = parts.netloc or "localhost"
        self.root = parts.path if url else None

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer the request at the address that it means."""
        if self.root is not None:
            mount(environ, self.root)
        path = environ.get("PATH_INFO", "")
        if path == HEALTH:
            environ["HTTP_HOST"] = self.host
        elif "HTTP_HOST" in environ:
            environ["HTTP_HOST"] = normal_host(environ["HTTP_HOST"])
        is_read = environ["REQUEST_METHOD"] in ("GET", "HEAD")
        if is_read and path.endswith("/") and path.strip("/"):
            return self._without_slash(environ)(environ, start)
        return self.app(environ, start)

    def _without_slash(self, environ: WSGIEnvironment) -> WSGIApplication:
        """308 to the path without slashes at its end, or the app's answer.

        To be redirected, one has to see that page: strangers learn nothing of the owner's.
        """
        answer = Response.from_app(self.app, environ.copy(), buffered=True)
        if answer.status_code not in (200, 404):  # 200 for a file, whose name loses the slash
            return answer
        # With two slashes at its start, it would be the address of another host.
        path = f"/{environ['PATH_INFO'].strip('/')}"
        found = Response.from_app(self.app, environ | {"PATH_INFO": path}, buffered=True)
        if found.status_code in (308, 404, 405):  # 308 where an extra has its page with a slash
            return answer
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        whole = (environ.get("SCRIPT_NAME", "") + path).encode("latin-1")
        answer.status_code, answer.location = 308, quote(whole, safe=IN_PATH) + query
        answer.set_data(b"")
        answer.headers.remove("Set-Cookie")  # the messages are for the page
        return answer
