"""The error pages, which keep what was typed."""

import re

from flask import current_app, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import AnonymousUserMixin
from flask_wtf.csrf import CSRFError
from sqlalchemy.orm.exc import ObjectDeletedError
from werkzeug import exceptions

from core import database, security
from core.plugins import Blog, current_blog

RETRY_AFTER = 10  # seconds; a database server restarts in less
# Fields that no error page shows or sends again, and those that it sends without showing them.
SECRET = {"csrf_token", "password", "confirm", "current", "website"}
HIDDEN = {
    *("action", "comments_closed", "may", "picture", "remember", "role", "submission", "version")
}
LABELS = {"body": "Text", "description": "What the picture shows"}
# Our own sentences, unless the code that raised the error has a better one.
SENTENCES = {
    400: "The blog could not make sense of this request.",
    403: "You can see this, but it is not yours to change.",
    404: "There is no page here. It may have been deleted, or the address is mistyped.",
    405: "This address does not take requests of that kind.",
    413: "That is more than the blog takes at once. Go back: your browser still has the text.",
    429: "That is too often. Wait a little.",
    500: "Something went wrong inside the blog, and nothing was saved. The owner can find the "
    "reason in the log.",
    503: "The blog is busy, or its database is away. Nothing was saved; try again in a moment.",
}
READ_ONLY = (
    "Nothing can be written on this blog at present, so nobody can log in. You can read it. The "
    "owner can find the reason with flask doctor."
)
STALE_PAGE = "Nothing has changed: the page was too old. Go back, reload it and try again."


def init_app(app: Blog) -> None:
    """Register the error pages."""
    app.register_error_handler(exceptions.HTTPException, show_error)
    app.register_error_handler(exceptions.InternalServerError, show_failure)
    app.register_error_handler(CSRFError, show_csrf_error)
    app.register_error_handler(ObjectDeletedError, show_deleted)
    for error in (exceptions.SecurityError, exceptions.BadHost):
        # Without a host that is known, no page has links.
        app.register_error_handler(error, lambda error: error)


def show_error(error: exceptions.HTTPException, **context: object) -> ResponseReturnValue:
    """The page of an error, with what was typed."""
    # A form that could not be read would raise again; one that was read is in the request.
    form = vars(request).get("form", {})
    typed = {name: text for name, text in form.items() if name not in SECRET}
    if error.code == exceptions.TooManyRequests.code:
        security.log_refusal("Too often", " ".join(typed.values()) or request.path)
    is_own = error.description != type(error).description
    response = current_app.make_response(error)
    page = render_template(
        "error.html",
        error=error,
        heading="That did not work" if error.code == 400 else error.name,
        sentence=error.description if is_own else SENTENCES.get(error.code or 0, error.description),
        # A 404 may be due to a query that is no text.
        query="" if error.code == 404 else request.args.get("q", ""),
        hidden={name: text for name, text in typed.items() if name in HIDDEN},
        shown={name: text for name, text in typed.items() if name not in HIDDEN},
        labels=LABELS,
        **context,
    )
    response.set_data(page)
    return response


def show_csrf_error(_error: CSRFError) -> ResponseReturnValue:
    """The form with what was typed and status 400, or the page of the error.

    The view is called as usual: its form finds the token wrong itself, and saves nothing.
    """
    if request.endpoint not in current_blog().csrf_form_endpoints:
        return show_error(exceptions.BadRequest(STALE_PAGE))
    try:
        response: ResponseReturnValue = current_app.dispatch_request()
    except exceptions.HTTPException as error:
        return show_error(error)
    return response


def show_deleted(_error: ObjectDeletedError) -> ResponseReturnValue:
    """404 for a row that was deleted during the request, maybe the user's own account."""
    return show_error(exceptions.NotFound(), current_user=AnonymousUserMixin())


def show_failure(error: exceptions.InternalServerError) -> ResponseReturnValue:
    """503 where the database is away, else 500; Flask has logged the traceback."""
    database.db.session.rollback()
    # To look up who is logged in could fail again.
    context = {"current_user": AnonymousUserMixin()}
    fault = error.original_exception
    # SQLite's error for a missing table or column is one of these, too.
    if isinstance(fault, database.UNAVAILABLE) and "no such" not in str(fault):
        sentence = READ_ONLY if re.search("read-?only", str(fault)) else None
        unavailable = exceptions.ServiceUnavailable(sentence, retry_after=RETRY_AFTER)
        return show_error(unavailable, **context)
    return show_error(error, **context)
