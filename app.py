"""The blog: `create_app()`, then its pages: reading, writing, comments, signing in and out."""

import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from urllib.parse import unquote

import flask.cli
import sqlalchemy as sa
from flask import (
    Blueprint,
    abort,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from flask_login import LoginManager, current_user, login_required, login_user, logout_user
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.urls import iri_to_uri

from core import config, database, errors, plugins, security, serving, urls
from core.database import atomic, db, lock_or_404, now
from core.pagination import ID_MAX, NEVER, parse_id, requested_page, requested_position
from core.plugins import Blog, current_blog, post_form_sent, post_published
from core.rendering import excerpt
from core.security import log_refusal, private, skip_cache
from forms import USERNAME_TAKEN, CommentForm, Form, LogInForm, PostForm, SignUpForm
from models import (
    COMMENT_EDIT_MINUTES,
    COUNT_MAX,
    PAGE_SIZE,
    RESERVED_SLUGS,
    AnonymousUser,
    Comment,
    Post,
    Session,
    User,
)

SESSION_LIFETIME = timedelta(hours=24)  # of a session that ends with its browser
# Values of the buttons of a post's form that save it; "save" is what Enter in a field presses.
SAVING = ("publish", "draft", "save")
ACTIONS = (*SAVING, "preview")  # those of extras, such as "picture", are theirs to handle
COMMENT_PENDING = "Your comment waits for approval. Until then nobody else reads it."
SIGN_UP_REFUSED = {
    "closed": "New accounts are not made here at present.",
    "invite": "A new account needs an invitation, which works once. Ask the owner for a new one.",
}
# The modules of BLOG_EXTRAS=all, in the order in which they plug in: in menus, too.
BUILT_IN_EXTRAS = (
    "extras.tags extras.pictures extras.search extras.archive extras.feeds extras.privacy "
    "extras.people extras.moderation extras.account porting extras.backup extras.doctor "
    "extras.demo extras.cache extras.limits"
).split()
# A setting, its value, and the extra without which it would have no effect.
REQUIRED_EXTRAS = [
    ("SIGNUP", "invite", "people"),
    ("MODERATION", "first", "moderation"),
    ("MODERATION", "all", "moderation"),
]

# Endpoints are named for the page: `posts.new` is the view `new_post`.
posts = Blueprint("posts", __name__)
users = Blueprint("users", __name__)
comments = Blueprint("comments", __name__)
auth = Blueprint("auth", __name__)
login_manager = LoginManager()
login_manager.anonymous_user = AnonymousUser
login_manager.session_protection = None  # an address changes with every walk out of the Wi-Fi


def create_app(instance_path: str | None = None, **settings: object) -> Blog:
    """The WSGI application; `settings` go over the environment, without its BLOG_ prefix."""
    app = Blog(__name__, instance_path or config.instance_path())
    config.load(app, settings)
    app.extras = plugins.load_extras(app.config["EXTRAS"], BUILT_IN_EXTRAS)
    for name, value, extra in REQUIRED_EXTRAS:
        if app.config[name] == value and extra not in app.extras:
            raise config.SettingError(f"BLOG_{name}={value} needs the extra {extra!r}.")
    database.init_app(app)
    serving.init_app(app)
    login_manager.init_app(app, add_context_processor=False)
    for blueprint in (posts, users, comments, auth):
        app.register_blueprint(blueprint)
    app.add_template_global(post_url)
    app.jinja_env.globals["comment_count_max"] = COUNT_MAX
    app.csrf_form_endpoints |= {"posts.new", "posts.edit", "comments.new", "comments.edit"}
    app.csrf_form_endpoints |= {"auth.log_in", "auth.sign_up"}
    with database.upgrading(app, sa.exc.DBAPIError):
        for plugin in app.extras.values():
            plugin.init_app(app)
        plugins.rebuild_rows(app, BUILT_IN_EXTRAS)
    add_hooks(app)
    errors.init_app(app)
    return app


def add_hooks(app: Blog) -> None:
    """What the blog does around every view, in this order.

    Extras have plugged in before: the page cache wraps what is there, and limits wrap views.
    """
    # First of all: other hosts are told nothing.
    app.before_request(security.refuse_other_hosts)
    app.before_request(security.refuse_odd_urls)
    # Before anything else reads the form, which may be too large or slow.
    app.before_request(security.form_reader(app.config["THREADS"]))
    # Before CSRFProtect: whatever is sent there, strangers learn nothing of the owner's pages.
    app.before_request(hide_owner_pages)
    # Before the views, which save what was sent.
    CSRFProtect(app)
    # Before Flask saves the session: that sets the cookie, or adds Vary.
    app.after_request(security.add_headers)
    app.session_interface = security.SessionInterface()
    # Around the page cache, whose keys have the host and the path.
    urls.init_app(app)
    # Outermost, for the scheme and the host of the visitor.
    if count := app.config["PROXIES"]:
        app.wsgi_app = ProxyFix(app.wsgi_app, count, count, count)  # type: ignore[method-assign]


def hide_owner_pages() -> None:
    """404 below /owner/ for everybody but owners; no browser stores these pages."""
    if request.path.startswith("/owner/"):
        if not current_user.is_owner:
            abort(404)
        security.make_private()


def post_url(post: Post, anchor: str | None = None, before: int | None = None) -> str:
    """The post's path; with `before`, it shows the comments whose ids are below this one."""
    return url_for("posts.show", id=post.id, slug=post.slug, before=before, _anchor=anchor)


# Reading ------------------------------------------------------------------------------------------


@posts.get("/", endpoint="home")
def home() -> ResponseReturnValue:
    """All published posts, newest first."""
    return show_list(Post.published())


@users.get("/users/<username>", endpoint="show")
def show_user(username: str) -> ResponseReturnValue:
    """One author's posts, newest first."""
    user = visible_user(username)
    query = Post.published().where(Post.author_id == user.id)
    return show_list(query, "users/show.html", heading=f"Posts by {user.name}", user=user)


def visible_user(username: str) -> User:
    """The user; 404 if there is none, or they are banned."""
    user: User = db.first_or_404(User.named(username).where(User.banned_at.is_(None)))
    if user.is_deleted:
        abort(404)
    return user


def show_list(
    rows: sa.Select[Post],
    template: str = "posts/list.html",
    sort_key: sa.Tuple | None = None,
    heading: str = "",
    parameters: Mapping[str, object] | None = None,
    summarize: Callable[[str], str] = excerpt,
    **context: object,
) -> ResponseReturnValue:
    """One page of the posts; 404 for a page that does not exist.

    `parameters` are those of the list in the query string, such as a search's `q`; `summarize`
    makes the words of a post's text that the list shows.
    """
    sort_key = Post.sort_key() if sort_key is None else sort_key
    parameters = parameters or {}
    page = requested_page(rows, sort_key, PAGE_SIZE, **parameters)
    context["list_heading"] = heading
    position = requested_position()
    if position:
        heading = f"{heading or 'Posts'}, {position}"
    context |= {"parameters": parameters, "summarize": summarize, "position": position}
    return render_template(template, page=page, heading=heading, **context)


@posts.get("/posts/<id:id>/", strict_slashes=False, endpoint="show")
@posts.get("/posts/<id:id>/<slug>", endpoint="show")
def show_post(id: int, slug: str = "") -> ResponseReturnValue:
    """A post and its newest comments, or older ones; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug in RESERVED_SLUGS:  # where comments are sent to
        abort(405, ["POST"])
    if slug != post.slug:
        return redirect(post_url(post), 301)
    before = request.args.get("before", ID_MAX, type=parse_id)
    found = comments_of(post, before)
    for comment in found:
        if comment.is_pending:
            security.make_private()
        if comment.is_editable_by(current_user):
            security.cache_until(comment.editable_until)
    # Its CSRF token would set a cookie, and visitors get none.
    is_open = post.is_published and not post.comments_closed
    form = CommentForm() if current_user.is_authenticated and is_open else None
    context = {"comments": found, "is_older": before < ID_MAX, "form": form}
    return render_template("posts/show.html", post=post, **context)


def visible_post(id: int) -> Post:
    """The post; 404 unless the user may read it."""
    post = db.session.scalar(Post.visible(), user_parameters(id=id)) or abort(404)
    if not post.is_published:
        security.make_private()
    return post


def comments_of(post: Post, before: int = ID_MAX) -> Sequence[Comment]:
    """The post's newest comments with ids below `before` that the user may read, newest first."""
    query = Comment.for_post(with_pending=post.is_editable_by(current_user))
    return db.session.scalars(query, user_parameters(post_id=post.id, before=before)).all()


def user_parameters(**parameters: int) -> dict[str, object]:
    """The parameters of a query about what the user may read."""
    return {"user_id": current_user.id, "is_owner": current_user.is_owner, **parameters}


# Writing ------------------------------------------------------------------------------------------


@posts.route("/posts/new", methods=["GET", "POST"], endpoint="new")
@login_required
def new_post() -> ResponseReturnValue:
    """Write a post. 403 for members."""
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    skip_cache()  # each tab gets a random value of its own
    return write_post(Post(author_id=current_user.id, published_at=NEVER))


@posts.route("/posts/<id:id>/edit", methods=["GET", "POST"], endpoint="edit")
@private
@login_required
def edit_post(id: int) -> ResponseReturnValue:
    """Change a post. 403 unless it or the blog is the user's."""
    post = editable_post(id)
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    if post.author.banned_at:
        abort(403, "Its author is banned. Lift the ban before you change it.")
    return write_post(post)


def write_post(post: Post) -> ResponseReturnValue:
    """The form of a post: shown, previewed or saved."""
    form = PostForm(post, current_blog().post_form_parts)
    if form.is_submitted():
        post_form_sent.send(current_blog(), form=form)
    action = request.form.get("action", "publish")
    # Extras may have found errors before; then the form is not validated.
    is_valid = form.is_submitted() and action in ACTIONS and not form.errors and form.validate()
    if is_valid and action in SAVING:
        return save_post(post, form, action)
    if not form.is_submitted():
        form.version.data = post.version
    is_preview = action == "preview" and not form.errors
    return render_template("posts/form.html", form=form, post=post, preview=is_preview), form.status


def save_post(post: Post, form: PostForm, action: str) -> ResponseReturnValue:
    """Save what was typed, and lead to the post; 409 if it was edited elsewhere meanwhile."""
    was_published = post.is_published if post.id else False
    try:
        post, is_conflict = store_post(post, form, action)
    except sa.exc.IntegrityError:  # a second click has inserted the same submission
        post, is_conflict = store_post(post, form, action)
    if is_conflict:
        form.version.data = post.version
        return render_template("posts/form.html", form=form, post=post, is_conflict=True), 409
    if post.is_draft:
        flash("Your draft is saved.")
    elif post.is_scheduled:
        flash("Your post is scheduled.")
    else:
        flash("Your changes are saved." if was_published else "Your post is published.")
    return redirect(post_url(post), 303)


def store_post(post: Post, form: PostForm, action: str) -> tuple[Post, bool]:
    """Save the post: it and False; or, on an edit conflict, the stored post and True."""
    author_id, is_new = post.author_id, not post.id
    with atomic():
        if is_new:
            post, is_conflict = submitted_post(author_id, form)
        else:
            post = lock_or_404(Post, post.id)
            is_conflict = form.version.data not in (None, "", post.version)
        if not is_conflict:
            was_draft = post.is_draft
            form.populate_post(post, action)
            post.edited_at = post.edited_at if is_new else now()
            Post.save(post)
            if was_draft and not post.is_draft:
                post_published.send(current_blog(), post=post)
    return post, is_conflict


def submitted_post(author_id: int, form: PostForm) -> tuple[Post, bool]:
    """The post of the form's submission, a new one unless a click before made it.

    And whether its texts have been edited since, so that the form must not replace them.
    """
    submission = {"author_id": author_id, "submission": form.submission.data}
    query = sa.select(Post).filter_by(**submission).with_for_update(of=Post)
    post = db.session.scalar(query) or Post(**submission, published_at=NEVER)
    return post, bool(post.edited_at) and not form.has_texts_of(post)


@posts.get("/drafts", endpoint="drafts")
@private
@login_required
def show_drafts() -> ResponseReturnValue:
    """The user's own drafts and scheduled posts."""
    return show_list(Post.unpublished_by(current_user), "posts/drafts.html", heading="Your drafts")


@posts.route("/posts/<id:id>/delete", methods=["GET", "POST"], endpoint="delete")
@private
@login_required
def delete_post(id: int) -> ResponseReturnValue:
    """Ask, then delete a post with its comments. 403 unless it or the blog is the user's."""
    post = editable_post(id)
    form = Form()
    if not form.validate_on_submit():
        return render_template("posts/delete.html", form=form, post=post), form.status
    with atomic():
        post = lock_or_404(Post, post.id)
        Post.delete_where(Post.id == post.id)
    flash("It is deleted.")
    return redirect(url_for("posts.home"), 303)


def editable_post(id: int) -> Post:
    """The post; 404 unless the user may read it, 403 unless they may change it."""
    post = visible_post(id)
    if not post.is_editable_by(current_user):
        abort(403)
    return post


# Comments -----------------------------------------------------------------------------------------


@comments.post("/posts/<id:id>/comments", endpoint="new")
@login_required
def new_comment(id: int) -> ResponseReturnValue:
    """Comment on a post. 404 if it is deleted meanwhile, 403 if it takes no comments."""
    post = db.first_or_404(sa.select(Post).where(Post.id == id, Post.is_published))
    form = CommentForm()
    if post.comments_closed:
        log_refusal("Comments on the post are closed", form.body.data)
        abort(403, "This post takes no more comments.")
    if not form.validate_on_submit():
        return render_template("comments/form.html", form=form, post=post), form.status
    path = post_url(post)  # before the transaction, in which the post would be read again
    comment = add_comment(post.id, form)
    # The newest comments are on this page.
    return redirect(f"{path}#comment-{comment.id}", 303)


def add_comment(post_id: int, form: CommentForm) -> Comment:
    """Save a comment; a second click leads to the comment of the first."""
    body, author_id = form.body.data, current_user.id
    submission = Comment.submission_digest(form.submission.data, body)
    comment = Comment(post_id=post_id, author_id=author_id, body=body, submission=submission)
    try:
        with atomic():
            comment.save()
    except sa.exc.IntegrityError:  # the same submission is there, or the post was deleted
        same = sa.select(Comment).filter_by(author_id=author_id, submission=submission)
        found: Comment = db.first_or_404(same)
        return found
    if comment.is_pending:
        flash(COMMENT_PENDING)
    return comment


@comments.get("/comments/<id:id>", endpoint="show")
def show_comment(id: int) -> ResponseReturnValue:
    """Lead to the page of the post on which the comment stands."""
    return redirect(comment_url(visible_comment(id)), 303)


def comment_url(comment: Comment) -> str:
    """The path of the page on which the comment stands for the user, with its fragment."""
    query = Comment.for_post(with_pending=comment.post.is_editable_by(current_user))
    ids = query.with_only_columns(Comment.id).limit(COUNT_MAX)
    parameters = user_parameters(post_id=comment.post_id, before=ID_MAX)
    before = None if comment.id in db.session.scalars(ids, parameters).all() else comment.id + 1
    return post_url(comment.post, f"comment-{comment.id}", before)


@comments.route("/comments/<id:id>/edit", methods=["GET", "POST"], endpoint="edit")
@private
@login_required
def edit_comment(id: int) -> ResponseReturnValue:
    """Change a comment of one's own, while it is fresh. 403 otherwise."""
    comment = visible_comment(id)
    if not comment.is_editable_by(current_user):
        abort(403, f"Only its author edits a comment, and for {COMMENT_EDIT_MINUTES} minutes.")
    security.cache_until(comment.editable_until)
    form = CommentForm({"body": comment.body})
    if not form.validate_on_submit():
        context = {"post": comment.post, "is_edit": True}
        return render_template("comments/form.html", form=form, **context), form.status
    with atomic():
        comment = lock_or_404(Comment, id)
        is_changed = comment.body != form.body.data
        if is_changed:
            comment.body, comment.updated_at = form.body.data, now()
            comment.save()
    if is_changed and comment.is_pending:
        flash(COMMENT_PENDING)
    return redirect(comment_url(comment), 303)


@comments.route("/comments/<id:id>/delete", methods=["GET", "POST"], endpoint="delete")
@private
@login_required
def delete_comment(id: int) -> ResponseReturnValue:
    """Ask, then delete a comment. 403 unless it, the post or the blog is the user's."""
    comment = visible_comment(id)
    if not comment.is_deletable_by(current_user):
        abort(403)
    form = Form()
    if not form.validate_on_submit():
        return render_template("comments/delete.html", form=form, comment=comment), form.status
    path = post_url(comment.post, "comments")
    with atomic():
        db.session.delete(lock_or_404(Comment, id))
    flash("It is deleted.")
    return redirect(path, 303)


def visible_comment(id: int) -> Comment:
    """The comment; 404 unless the user may read it."""
    return db.session.scalar(Comment.visible(), user_parameters(id=id)) or abort(404)


# Signing in and out -------------------------------------------------------------------------------


@auth.route("/signup", methods=["GET", "POST"], endpoint="sign_up")
def sign_up() -> ResponseReturnValue:
    """Make an account and log in to it. 403 where sign-up is closed, or needs an invitation."""
    settings = current_app.config
    invitation = read_invitation(request.args.get("invitation", ""))
    signup, invitation_id = settings["SIGNUP"], invitation.get("id")
    if not User.may_sign_up(signup, invitation_id):
        abort(403, SIGN_UP_REFUSED[signup])
    form = SignUpForm()
    form.account_name = form.username.data or ""
    if form.validate_on_submit():
        password_hash = security.hash_password(form.password.data)
        may = invitation.get("may", settings["NEW_ACCOUNTS_MAY"])
        try:
            with atomic():
                user = User.create(form.username.data, password_hash, may, signup, invitation_id)
                start_session(user)
            return redirect(next_path(), 303)
        except PermissionError:  # another user was faster with the invitation
            abort(403, SIGN_UP_REFUSED["invite"])
        except sa.exc.IntegrityError:
            form.username.errors = [USERNAME_TAKEN]
    context = {"is_invited": bool(invitation), "is_first": not User.any_exists()}
    return render_template("auth/sign_up.html", form=form, **context), form.status


def read_invitation(token: str) -> dict[str, str]:
    """The `id` and `may` of an invitation; empty if it is forged, over or used."""
    claims = security.verify("invitation", token)
    used = sa.select(User.id).where(User.invitation == claims.get("id", ""))
    return {} if db.session.scalar(used) else {name: str(claims[name]) for name in claims}


@auth.route("/login", methods=["GET", "POST"], endpoint="log_in")
def log_in() -> ResponseReturnValue:
    """Log in, then go back to where it was asked for."""
    form = LogInForm()
    if form.validate_on_submit():
        user = db.session.scalar(User.named(form.username.data))
        password_hash = user.password_hash if user else None
        if security.check_password(password_hash, form.password.data) and user:
            unchanged = User.with_password(user.id, str(password_hash))
            with atomic():
                # While the password was hashed, it may have changed, or a ban begun.
                user = db.session.scalar(unchanged)
                if user:
                    start_session(user, form.remember.data)
                    return redirect(next_path(), 303)
        form.form_errors.append("This username and password do not belong together.")
    return render_template("auth/log_in.html", form=form), form.status


def next_path() -> str:
    """The page of this blog that the query's `next` names, or home."""
    path = security.safe_path(request.args.get("next")) or ""
    is_below = path.startswith(f"{request.root_path}/") and "/.." not in unquote(path)
    return path if is_below else url_for("posts.home")


@auth.post("/logout", endpoint="log_out")
def log_out() -> ResponseReturnValue:
    """End this browser's session."""
    with atomic():
        end_session()
    return redirect(url_for("posts.home"), 303)


@login_manager.unauthorized_handler
def ask_to_log_in() -> ResponseReturnValue:
    """Lead to the log-in page; but a text that was sent comes back, status 400."""
    if request.method == "POST":
        abort(400, "You are not logged in any more, so nothing was saved yet.")
    path = iri_to_uri(request.root_path + request.full_path.rstrip("?"))
    return redirect(url_for("auth.log_in", next=path), 303)


@login_manager.user_loader
def load_user(session_id: str) -> User | None:
    """The user of the session whose id the cookie carries; None when it has ended."""
    row = db.session.execute(Session.with_user(), {"session_id": session_id}).first()
    if not row or row.ends_at <= now():
        return None
    security.cache_until(row.ends_at)
    user: User = row.User
    user.session_id = session_id
    return user


def start_session(user: User, is_permanent: bool = False) -> None:
    """Log the user in; `is_permanent`: also after the browser was closed."""
    end_session()
    session.permanent = is_permanent
    lifetime = current_app.permanent_session_lifetime if is_permanent else SESSION_LIFETIME
    user.session_id = secrets.token_urlsafe(32)
    db.session.add(Session(id=user.session_id, user_id=user.id, ends_at=now() + lifetime))
    login_user(user)


def end_session() -> None:
    """End this browser's session, and delete those whose time is over."""
    is_over = sa.or_(Session.id == current_user.get_id(), Session.ends_at <= now())
    db.session.execute(sa.delete(Session).where(is_over))
    logout_user()
    session.clear()


if __name__ == "__main__":
    flask.cli.cli.main(["--app", __file__, "serve", *sys.argv[1:]])
