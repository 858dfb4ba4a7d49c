"""The blog: its factory, then every page by section."""

from contextlib import suppress
from datetime import datetime
from io import BytesIO
from typing import Any, TypeVar

import sqlalchemy as sa
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    redirect,
    request,
    url_for,
)
from flask import render_template as render
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required
from flask_wtf.csrf import CSRFError, CSRFProtect, generate_csrf
from sqlalchemy.orm.exc import ObjectDeletedError
from werkzeug import exceptions
from werkzeug.routing import IntegerConverter
from werkzeug.urls import iri_to_uri

import cache
import cli
import config
import database
import forms
import owner
import pictures
import porting
import rate_limits
import rendering
import search
import security
from database import atomic, db
from models import (
    COMMENT_EDIT_MINUTES,
    COUNT_MAX,
    EPOCH,
    ID_MAX,
    NEVER,
    PAGE_SIZE,
    TAG_COUNT_MAX,
    Comment,
    Page,
    Picture,
    Place,
    Post,
    Tag,
    User,
    Visitor,
    id_of,
    page_of,
    place_at,
)

RETRY_AFTER = 10  # seconds; a database server restarts in less
FEED_MAX = 20  # entries; readers ask often enough to miss none
SITEMAP_MAX = 2_000  # addresses in a file, made in 0.1 s; the protocol allows 50,000
ARCHIVE_MAX = 500  # titles on a page, about 100 kB
FEEDS = {"xml": "application/atom+xml", "json": "application/feed+json"}
WAITS = "Your comment waits for approval. Until then nobody else reads it."
NO_SIGN_UP = {
    "closed": "New accounts are not made here at present.",
    "invite": "A new account needs an invitation, which works once. Ask the owner for a new one.",
}
# Views that show themselves again, with what was typed, where the CSRF token is missing or wrong.
FORMS = {
    "blog.new_post",
    "blog.edit_post",
    "blog.new_comment",
    "blog.edit_comment",
    "blog.log_in",
    "blog.sign_up",
}
NOT_SHOWN = {"csrf_token", "password", "confirm", "current", "website"}  # again on an error page

Text = TypeVar("Text", Post, Comment)

blog = Blueprint("blog", __name__)


class IdConverter(IntegerConverter):
    """An id in a URL: ASCII digits, and no more of them than the column holds."""

    regex = "[1-9][0-9]{0,8}"


def create_app(instance_path: str | None = None, **settings: Any) -> Flask:
    """The WSGI application; `settings` go over the environment, without its BLOG_ prefix."""
    app = Flask(__name__, instance_path=instance_path, instance_relative_config=True)
    config.load(app, settings)
    app.url_map.converters["id"] = IdConverter
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    for name in ("markdown", "excerpt", "snippet", "date", "counted"):
        app.add_template_filter(getattr(rendering, name))
    app.jinja_env.globals |= {"csrf_token": generate_csrf, "current_user": current_user}
    app.jinja_env.globals["count_max"] = COUNT_MAX
    for function in (address, post_url, waiting):
        app.add_template_global(function)
    database.init_app(app)
    cache.init_app(app, Post.next_due)
    security.init_app(app)
    app.register_blueprint(blog)
    app.register_blueprint(owner.pages)
    # After the hooks that bound a form and that hide the owner's pages from strangers.
    CSRFProtect(app)
    rate_limits.init_app(app)
    search.init_app(app)
    app.register_error_handler(exceptions.HTTPException, show_error)
    app.register_error_handler(exceptions.InternalServerError, show_failure)
    app.register_error_handler(CSRFError, show_csrf_error)
    app.register_error_handler(ObjectDeletedError, show_loss)
    for kind in (exceptions.SecurityError, exceptions.BadHost):
        app.register_error_handler(kind, lambda error: error)  # without a host, no page has links
    for command in cli.COMMANDS:
        app.cli.add_command(command)
    return app


def address(**changes: str | None) -> str:
    """The path of the page that is shown, with other parameters."""
    return url_for(str(request.endpoint), **(request.view_args or {}) | changes)


def post_url(post: Post, anchor: str | None = None) -> str:
    """The post's path."""
    return url_for("blog.show_post", id=post.id, slug=post.slug, _anchor=anchor)


def waiting() -> int:
    """How many comments wait for the owner, up to COUNT_MAX + 1, for the navigation."""
    some = Comment.waiting().with_only_columns(Comment.id).limit(COUNT_MAX + 1).subquery()
    return db.session.scalar(sa.select(sa.func.count()).select_from(some)) or 0


# Reading ------------------------------------------------------------------------------------------


@blog.get("/")
@blog.get("/feed.<any(xml, json):kind>")
def home(kind: str = "html") -> ResponseReturnValue:
    """Everybody's posts, newest first."""
    return show_list(Post.published(), kind)


@blog.get("/users/<username>")
@blog.get("/users/<username>/feed.<any(xml):kind>")
def show_user(username: str, kind: str = "html") -> ResponseReturnValue:
    """One author's posts, newest first."""
    user = db.first_or_404(User.named(username).where(User.banned_at.is_(None)))
    if user.is_deleted:
        abort(404)
    posts = Post.published().where(Post.author_id == user.id)
    return show_list(posts, kind, f"Posts by {user.name}", author=user)


@blog.get("/tags/<tag>")
@blog.get("/tags/<tag>/feed.<any(xml):kind>")
def show_tag(tag: str, kind: str = "html") -> ResponseReturnValue:
    """The posts with a tag, newest first; 404 if there are none."""
    posts = Post.tagged(tag.lower())
    db.first_or_404(posts.limit(1))
    return show_list(posts, kind, f"Posts tagged {tag.lower()}", Tag.place())


@blog.get("/tags")
def tags() -> ResponseReturnValue:
    """Every tag and the number of its posts."""
    counted = [row for row in db.session.execute(Tag.counted()) if row[1]]
    return render("tags.html", tags=counted, most=TAG_COUNT_MAX)


@blog.get("/search")
def search_posts() -> ResponseReturnValue:
    """The posts that hold every word of a query, newest first."""
    query = " ".join(forms.tidy(request.args.get("q", "")).split())[: search.QUERY_MAX]
    asked = search.phrases(query)
    if not asked:
        return render("search.html", query=query)
    posts = search.found(asked, place("before"), place("after"))
    heading, shown = f"Search for {query}", search.pattern(asked)
    if request.args.keys() & {"before", "after"}:
        cache.skip()  # pages far down are asked for once, and would push out others
    return show_list(posts, heading=heading, query=query, asked=shown)


def show_list(
    posts: sa.Select[Post],
    kind: str = "html",
    heading: str = "",
    sorted_by: sa.Tuple | None = None,
    **context: Any,
) -> ResponseReturnValue:
    """One page of the posts, or their feed; 404 for a page that does not exist."""
    if kind != "html":
        return show_feed(kind, posts, heading, address(kind=None))
    page = asked_page(posts, sorted_by)
    context |= {"heading": heading, "before": place("before"), "after": place("after")}
    return render("posts.html", page=page, **context)


def asked_page(
    posts: sa.Select[Post], sorted_by: sa.Tuple | None = None, size: int = PAGE_SIZE
) -> Page:
    """The page of a list at which the query string points; 404 for one that does not exist."""
    before, after = place("before"), place("after")
    place_of = Post.place() if sorted_by is None else sorted_by
    page = page_of(posts, before, after, place_of, size)
    if before and not page.posts:
        abort(404)
    if after and not page.newer:
        # The newest page has one address, and is full if it can be.
        rest = {name: request.args.get(name) for name in ("q", "year")}
        abort(redirect(address(**rest), 303))
    return page


def place(name: str) -> Place | None:
    """The place in a list at which the query string's parameter points; 404 for nonsense."""
    key = request.args.get(name)
    try:
        return place_at(key) if key else None
    except LookupError:
        abort(404)


@blog.get("/posts/<id:id>/", strict_slashes=False)
@blog.get("/posts/<id:id>/<slug>")
def show_post(id: int, slug: str = "") -> ResponseReturnValue:
    """A post and its newest comments, or older ones; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug != post.slug:
        return redirect(post_url(post), 301)
    before = request.args.get("before", ID_MAX, type=id_of)
    under = Comment.under(post, current_user).where(Comment.id < before)
    comments = db.session.scalars(under.limit(COUNT_MAX + 1)).all()
    if any(comment.is_waiting for comment in comments):
        g.is_private = True
    # A form would set a cookie, and visitors have none.
    is_open = post.is_published and not post.comments_closed
    form = forms.CommentForm() if current_user.is_authenticated and is_open else None
    context = {"comments": comments, "is_older": before < ID_MAX, "form": form}
    return render("post.html", post=post, **context)


def visible_post(id: int) -> Post:
    """The post; 404 unless one may read it."""
    post: Post = db.first_or_404(Post.visible_to(current_user).where(Post.id == id))
    if not post.is_published:
        g.is_private = True
    return post


@blog.get("/posts/<id:id>/<slug>.md")
def show_markdown(id: int, slug: str) -> ResponseReturnValue:
    """A post as it was typed; 301 to the right slug from any other."""
    post = visible_post(id)
    if slug != post.slug:
        return redirect(url_for("blog.show_markdown", id=id, slug=post.slug), 301)
    return Response(post.body, mimetype="text/markdown")


@blog.get("/archive")
def show_archive() -> ResponseReturnValue:
    """Every title by year and month, in pages of ARCHIVE_MAX titles, or those of one year."""
    year, zone = request.args.get("year", 0, type=int), current_app.config["ZONE"]
    posts, years = Post.titles(), range(0)
    year = year if year in range(EPOCH.year, NEVER.year) else 0
    if year:
        begin, end = (datetime(number, 1, 1, tzinfo=zone) for number in (year, year + 1))
        posts = posts.where(Post.published_at >= begin, Post.published_at < end)
    page = asked_page(posts, size=ARCHIVE_MAX)
    if page.newer or page.older:
        # One after the other, each is at an end of an index; together, they read all of it.
        ends = (sa.func.max(Post.published_at), sa.func.min(Post.published_at))
        at = [db.session.scalar(sa.select(end).where(Post.is_published)) for end in ends]
        newest, oldest = (end.astimezone(zone).year for end in at if end)
        years = range(newest, oldest - 1, -1)
    return render("archive.html", page=page, years=years, year=year)


@blog.get("/privacy")
def privacy() -> ResponseReturnValue:
    """What the site stores, read off the tables themselves."""
    kinds = [mapper.class_ for mapper in database.Base.registry.mappers]
    return render("privacy.html", kinds=sorted(kinds, key=lambda kind: kind.__name__))


@blog.get("/healthz")
def healthz() -> ResponseReturnValue:
    """For monitors: 200 if the database answers, else 503."""
    db.session.execute(sa.select(1))
    cache.skip()
    return Response("ok\n", mimetype="text/plain", headers={"Cache-Control": "no-store"})


# Writing ------------------------------------------------------------------------------------------


@blog.route("/posts/new", methods=["GET", "POST"])
@login_required
def new_post() -> ResponseReturnValue:
    """Write a post. 403 for members."""
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    cache.skip()  # each tab has a random value of its own
    return write(Post(author_id=current_user.id, published_at=NEVER), forms.PostForm())


@blog.route("/posts/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_post(id: int) -> ResponseReturnValue:
    """Change a post. 403 unless it is yours or the blog is."""
    post = editable_post(id)
    if not current_user.may_post:
        abort(403, "Your account can comment, but not post.")
    if post.author.banned_at:
        abort(403, "Its author is banned. Lift the ban before you change it.")
    later = None if post.is_draft or post.is_published else post.published_at
    at = later and later.astimezone(current_app.config["ZONE"]).replace(tzinfo=None)
    before = {name: getattr(post, name) for name in ("title", "body", "comments_closed")}
    before |= {"publish_at": at, "tags": ", ".join(post.tags)}
    return write(post, forms.PostForm(data=before))


def write(post: Post, form: forms.PostForm) -> ResponseReturnValue:
    """The post's form: shown, previewed or saved; 409 if the post has changed meanwhile."""
    action = request.form.get("action", "publish")
    if action == "picture" or request.files.get("picture"):
        add_picture(form)
    is_text = action != "picture" and not form.errors
    if is_text and form.validate_on_submit() and action != "preview":
        return save(post, form, action)
    if not form.is_submitted():
        form.version.data = post.version
    preview = action == "preview" and not form.errors
    return render("post_form.html", form=form, post=post, preview=preview), form.status


def add_picture(form: forms.PostForm) -> None:
    """Keep the picture that was sent, and put it at the end of the text."""
    if [name for name in ("csrf_token", "description") if not form[name].validate(form)]:
        return
    try:
        with security.slot(security.shrinking):
            file = request.files.get("picture")
            webp, size = pictures.to_webp(file.stream if file else BytesIO())
    except ValueError as error:
        form.picture.errors = [str(error)]
        return
    picture = Picture.of(current_user.id, webp, size)
    path = url_for("blog.show_picture", name=picture.name)
    with suppress(sa.exc.IntegrityError), atomic():  # the same one is added at this moment
        db.session.merge(picture)
    form.add_picture(path)
    flash("The picture is at the end of the text.")


def save(post: Post, form: forms.PostForm, action: str) -> ResponseReturnValue:
    """Save what was typed, and lead to the post; 409 if it was edited elsewhere meanwhile."""
    was_published = post.is_published
    try:
        post, is_conflict = store(post, form, action)
    except sa.exc.IntegrityError:  # of two clicks at once, this is the second
        post, is_conflict = store(post, form, action)
    if is_conflict:
        form.version.data = post.version
        return render("post_form.html", form=form, post=post, is_conflict=True), 409
    if post.is_draft:
        flash("Your draft is saved.")
    elif post.is_scheduled:
        flash("Your post is scheduled.")
    else:
        flash("Your changes are saved." if was_published else "Your post is published.")
    return redirect(post_url(post), 303)


def store(post: Post, form: forms.PostForm, action: str) -> tuple[Post, bool]:
    """The post with what was typed; or as it is, and True, if it was edited elsewhere meanwhile."""
    is_new = post.id is None
    author_id = post.author_id
    with atomic():
        if not is_new:
            post = for_update(post)
            is_conflict = form.version.data not in (None, "", post.version)
        else:
            # A second click, or Back and another one, leads to the post of the first.
            post.submission = form.submission.data
            sent = Post.submitted(author_id, post.submission).with_for_update(of=Post)
            post = db.session.scalar(sent) or post
            typed = (form.title.data, form.body.data)
            is_conflict = bool(post.edited_at) and (post.title, post.body) != typed
        if not is_conflict:
            change(post, form, action)
            post.edited_at = post.edited_at if is_new else database.now()
    return post, is_conflict


def change(post: Post, form: forms.PostForm, action: str) -> None:
    """Save a post with what was typed; TooManyRequests if too many were published lately."""
    was_draft = post.is_draft
    typed = (form.title.data, form.body.data)
    if post.is_published and (post.title, post.body) != typed:
        post.updated_at = database.now()
    post.title, post.body = typed
    post.tags, post.comments_closed = form.tag_names(), form.comments_closed.data
    post.published_at = form.published_at(post.published_at, action)
    Post.save(post)
    if was_draft and not post.is_draft:
        rate_limits.count("post")


@blog.get("/pictures/<name>")
def show_picture(name: str) -> ResponseReturnValue:
    """A picture of a post. Whoever knows its name may see it, which nobody guesses."""
    query = sa.select(Picture.webp).join(User).where(User.banned_at.is_(None))
    webp = db.first_or_404(query.where(Picture.name == name))
    return Response(webp, mimetype="image/webp", headers={"Cache-Control": cache.FOREVER})


@blog.get("/drafts")
@login_required
def drafts() -> ResponseReturnValue:
    """One's own drafts and scheduled posts."""
    return show_list(Post.unpublished_by(current_user), heading="Your drafts")


@blog.route("/posts/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_post(id: int) -> ResponseReturnValue:
    """Ask, then delete a post with its comments. 403 unless it is yours or the blog is."""
    return delete(editable_post(id), "delete_post.html", url_for("blog.home"))


def editable_post(id: int) -> Post:
    """The post; 404 if there is none, 403 if it is not to change."""
    post = visible_post(id)
    if not post.is_editable_by(current_user):
        abort(403)
    return post


def for_update(text: Text) -> Text:
    """The post or comment as it is now, locked until the commit; 404 if it was deleted."""
    kind = type(text)
    found: Text = db.first_or_404(
        sa.select(kind).where(kind.id == text.id).with_for_update(of=kind)
    )
    return found


def delete(text: Text, question: str, back: str) -> ResponseReturnValue:
    """Ask the question, a template, or delete the text and lead back to that path."""
    form = forms.Form()
    if not form.validate_on_submit():
        return render(question, form=form, text=text), form.status
    with atomic():
        text = for_update(text)
        if isinstance(text, Post):
            Post.delete(Post.id == text.id)
        else:
            db.session.delete(text)
    flash("It is deleted.")
    return redirect(back, 303)


# Comments -----------------------------------------------------------------------------------------


@blog.post("/posts/<id:id>/comments")
@login_required
def new_comment(id: int) -> ResponseReturnValue:
    """Comment on a post. 404 if it is deleted meanwhile, 403 if it takes no comments."""
    post = db.first_or_404(sa.select(Post).where(Post.id == id, Post.is_published))
    form = forms.CommentForm()
    if post.comments_closed:
        security.note_refusal("Comments on the post are closed", form.body.data)
        abort(403, "This post takes no more comments.")
    if not form.validate_on_submit():
        return render("comment_form.html", form=form, post=post), form.status
    path = post_url(post)
    comment = add_comment(post, form)
    return redirect(f"{path}#comment-{comment.id}", 303)


def add_comment(post: Post, form: forms.CommentForm) -> Comment:
    """Save a comment, shown or waiting; a second click leads to the one of the first."""
    body, author = form.body.data, current_user
    must_wait = Comment.must_wait(body, post, author, current_app.config["MODERATION"])
    comment = Comment(
        post_id=post.id,
        author_id=author.id,
        body=body,
        submission=Comment.submission_of(form.submission.data, body),
        state="waiting" if must_wait else "shown",
    )
    same = sa.select(Comment).filter_by(author_id=author.id, submission=comment.submission)
    try:
        with atomic():
            db.session.add(comment)
            db.session.flush()
            rate_limits.count("comment")
    except sa.exc.IntegrityError:  # this is the second click, or the post was deleted
        found: Comment = db.first_or_404(same)
        return found
    if must_wait:
        flash(WAITS)
    return comment


@blog.route("/comments/<id:id>/edit", methods=["GET", "POST"])
@login_required
def edit_comment(id: int) -> ResponseReturnValue:
    """Change a comment of one's own, while it is fresh. 403 otherwise."""
    comment = visible_comment(id)
    if not comment.is_editable_by(current_user):
        abort(403, f"Only its author edits a comment, and for {COMMENT_EDIT_MINUTES} minutes.")
    form = forms.CommentForm(data={"body": comment.body})
    if not form.validate_on_submit():
        return render("comment_form.html", form=form, post=comment.post), form.status
    body, moderation = form.body.data, current_app.config["MODERATION"]
    must_wait = Comment.must_wait(body, comment.post, comment.author, moderation)
    with atomic():
        comment = for_update(comment)
        is_changed = comment.body != body
        if is_changed:
            comment.body, comment.updated_at = body, database.now()
            comment.state = "waiting" if must_wait else comment.state
    if is_changed and must_wait:
        flash(WAITS)
    return redirect(post_url(comment.post, f"comment-{comment.id}"), 303)


@blog.post("/comments/<id:id>/approve")
@login_required
def approve_comment(id: int) -> ResponseReturnValue:
    """Show a comment that waits. 403 unless the post or the blog is yours."""
    comment = visible_comment(id)
    if not comment.post.is_editable_by(current_user):
        abort(403)
    with atomic():
        owner.approve(for_update(comment))
    return redirect(post_url(comment.post, f"comment-{comment.id}"), 303)


@blog.route("/comments/<id:id>/delete", methods=["GET", "POST"])
@login_required
def delete_comment(id: int) -> ResponseReturnValue:
    """Ask, then delete a comment. 403 unless it, the post or the blog is yours."""
    comment = visible_comment(id)
    if not comment.is_deletable_by(current_user):
        abort(403)
    return delete(comment, "delete_comment.html", post_url(comment.post, "comments"))


def visible_comment(id: int) -> Comment:
    """The comment; 404 if there is none."""
    comment: Comment = db.first_or_404(Comment.visible_to(current_user).where(Comment.id == id))
    return comment


# Signing in ---------------------------------------------------------------------------------------


@blog.route("/signup", methods=["GET", "POST"])
def sign_up() -> ResponseReturnValue:
    """Make an account and log in to it. 403 where sign-up is closed, or needs an invitation."""
    invitation = security.invitation_of(request.args.get("invitation", ""))
    config = current_app.config
    rules = {
        "may": invitation.get("may", config["NEW_ACCOUNTS_MAY"]),
        "signup": config["SIGNUP"],
        "invitation": invitation.get("id"),
    }
    if not User.may_be_created(rules["signup"], rules["invitation"]):
        abort(403, NO_SIGN_UP[config["SIGNUP"]])
    form = forms.SignUpForm()
    form.name = form.username.data or ""
    if form.validate_on_submit():
        password_hash = security.hash_password(form.password.data)
        try:
            with atomic():
                user = User.create(form.username.data, password_hash, **rules)
                security.log_in(user, keep=False)
            return redirect(next_path(), 303)
        except PermissionError:  # somebody was faster with it
            abort(403, NO_SIGN_UP["invite"])
        except sa.exc.IntegrityError:
            form.username.errors = [forms.TAKEN]
    is_first = User.may_be_created("closed", None)  # as no other account may
    context = {"form": form, "is_invited": bool(invitation), "is_first": is_first}
    return render("sign_up.html", **context), form.status


@blog.route("/login", methods=["GET", "POST"])
def log_in() -> ResponseReturnValue:
    """Log in, then go back to where it was asked for."""
    form = forms.LogInForm()
    if form.validate_on_submit():
        user = db.session.scalar(User.named(form.username.data))
        if security.is_password_of(user, form.password.data) and user:
            unchanged = security.unchanged(user)
            with atomic():
                if user := db.session.scalar(unchanged):
                    security.log_in(user, form.remember.data)
                    return redirect(next_path(), 303)
        form.form_errors.append("This username and password do not belong together.")
    return render("log_in.html", form=form), form.status


def next_path() -> str:
    """The page of this site that the query's `next` names, or home."""
    return security.safe_path(request.args.get("next")) or url_for("blog.home")


@blog.route("/password/<token>", methods=["GET", "POST"])
def reset_password(token: str) -> ResponseReturnValue:
    """Set a new password through a link of the owner's, once. 404 if it is over."""
    user = security.user_of_reset(token)
    if not user:
        abort(404, "This link has been used, or its time is over. Ask the owner for another.")
    form = forms.PasswordForm()
    form.name = user.username
    if not form.validate_on_submit():
        return render("password.html", form=form), form.status
    password_hash = security.hash_password(form.password.data)
    with atomic():
        user = security.user_of_reset(token) or abort(404)
        user.change_password(password_hash)
    flash("Your password is changed. Log in with the new one.")
    return redirect(url_for("blog.log_in"), 303)


@blog.post("/logout")
def log_out() -> ResponseReturnValue:
    """End this browser's session."""
    with atomic():
        security.log_out()
    return redirect(url_for("blog.home"), 303)


@security.login_manager.unauthorized_handler
def ask_to_log_in() -> ResponseReturnValue:
    """Lead to the log-in page; but a text that was sent comes back, status 400."""
    if request.method == "POST":
        abort(400, "You are not logged in any more, so nothing was saved yet.")
    return redirect(url_for("blog.log_in", next=iri_to_uri(request.full_path.rstrip("?"))), 303)


# Account ------------------------------------------------------------------------------------------


@blog.route("/account", methods=["GET", "POST"])
@login_required
def account() -> ResponseReturnValue:
    """What others are told about oneself, and the pictures that no post shows any more."""
    form = forms.AccountForm(obj=current_user)
    if form.validate_on_submit():
        with atomic():
            form.populate_obj(current_user)
        flash("Your account is changed.")
        return redirect(url_for("blog.account"), 303)
    return render("account.html", form=form, pictures=Picture.unused_by(current_user)), form.status


@blog.route("/account/password", methods=["GET", "POST"])
@login_required
def change_password() -> ResponseReturnValue:
    """Set a new password, which logs out every other browser."""
    form = forms.NewPasswordForm()
    form.name = current_user.username
    if form.validate_on_submit() and is_current_password(form):
        unchanged = security.unchanged(current_user)
        password_hash = security.hash_password(form.password.data)
        with atomic():
            user = db.session.scalar(unchanged)
            if user:
                user.change_password(password_hash, keep=user.session_id)
        if user:
            flash("Your password is changed, and every other browser logged out.")
            return redirect(url_for("blog.account"), 303)
        form.current.errors = ["This is not your password any more."]
    return render("password.html", form=form), form.status


def is_current_password(form: forms.CurrentPasswordForm) -> bool:
    """Whether it is typed in the form, which says so if not."""
    is_right = security.is_password_of(current_user, form.current.data)
    if not is_right:
        form.current.errors = ["This is not your password."]
    return is_right


@blog.get("/account/export")
@login_required
def export() -> ResponseReturnValue:
    """One's own data in a zip: the account, posts, comments, pictures."""
    file, name = BytesIO(), f"{current_user.username}.zip"
    porting.export(file, current_user.id)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file.getvalue(), mimetype="application/zip", headers=headers)


@blog.post("/account/sessions")
@login_required
def log_out_everywhere() -> ResponseReturnValue:
    """End every session of the account, this one too."""
    with atomic():
        current_user.end_sessions()
        security.log_out()
    return redirect(url_for("blog.home"), 303)


@blog.route("/account/delete", methods=["GET", "POST"])
@login_required
def delete_account() -> ResponseReturnValue:
    """Ask, then delete the account and its posts; the comments go too, or stay without a name."""
    form = forms.LeaveForm()
    if form.validate_on_submit() and is_current_password(form):
        with atomic():
            if current_user.is_only_owner():
                abort(403, "You are the only owner. Make somebody else an owner first.")
            current_user.leave(with_comments=form.comments.data)
            security.log_out()
        flash("Your account is deleted.")
        return redirect(url_for("blog.home"), 303)
    return render("delete_account.html", form=form), form.status


@blog.post("/account/pictures")
@login_required
def delete_picture() -> ResponseReturnValue:
    """Delete a picture of one's own that no post shows."""
    with atomic():
        for picture in Picture.unused_by(current_user):
            if picture.name == request.form.get("picture"):
                db.session.delete(picture)
    return redirect(url_for("blog.account", _anchor="pictures"), 303)


# Feeds --------------------------------------------------------------------------------------------


@blog.get("/posts/<id:id>/feed.xml")
def comment_feed(id: int) -> ResponseReturnValue:
    """A post's newest comments in Atom."""
    post = db.first_or_404(Post.published().where(Post.id == id))
    comments = Comment.under(post, Visitor())
    return show_feed("xml", comments, f"Comments on {post.title}", post_url(post), post=post)


def show_feed(
    kind: str, entries: sa.Select[Any], title: str, page: str, **context: Any
) -> ResponseReturnValue:
    """The first entries for feed readers, which ask again and mostly get a 304."""
    context |= {"entries": db.session.scalars(entries.limit(FEED_MAX)).all(), "base": base_url()}
    try:
        text = render(
            f"feed.{kind}", title=title or current_app.config["NAME"], page=page, **context
        )
    except ValueError:  # of links that cannot be made absolute
        abort(400, "The name of this host is none.")
    return Response(text, content_type=f"{FEEDS[kind]}; charset=utf-8")


@blog.get("/sitemap.xml")
@blog.get("/sitemap-<id:part>.xml")
def sitemap(part: int | None = None) -> ResponseReturnValue:
    """The posts for search engines; where there are many, an index of parts by their ids."""
    last = db.session.scalar(sa.select(sa.func.max(Post.id))) or 1
    parts = range(1, (last - 1) // SITEMAP_MAX + 2)
    if part and part not in parts:
        abort(404)
    end = (part or 1) * SITEMAP_MAX
    query = Post.titles().where(Post.id > end - SITEMAP_MAX, Post.id <= end)
    is_index = not part and len(parts) > 1
    posts = [] if is_index else db.session.scalars(query).all()
    index = parts if is_index else []
    page = render("sitemap.xml", posts=posts, index=index, base=base_url())
    return Response(page, mimetype="application/xml")


@blog.get("/robots.txt")
def robots() -> ResponseReturnValue:
    """What search engines may read."""
    return Response(render("robots.txt", base=base_url()), mimetype="text/plain")


def base_url() -> str:
    """The blog's public address, without a slash at its end."""
    return str(current_app.config["URL"] or request.url_root).rstrip("/")


# Errors -------------------------------------------------------------------------------------------


def show_error(error: exceptions.HTTPException, **context: Any) -> ResponseReturnValue:
    """The page of an error; what was typed comes back on it."""
    # A form that could not be read raises again; one that was read is remembered here.
    sent = vars(request).get("form", {})
    typed = {name: text for name, text in sent.items() if name not in NOT_SHOWN}
    if error.code == exceptions.TooManyRequests.code:
        security.note_refusal("Too often", " ".join(typed.values()) or request.path)
    response = current_app.make_response(error)
    query = "" if error.code == 404 else request.args.get("q", "")  # that of a 404 may be no text
    context |= {"typed": typed, "query": query}
    response.set_data(render("error.html", error=error, **context))
    return response


def show_csrf_error(_error: CSRFError) -> ResponseReturnValue:
    """A form with what was typed, which finds the token wrong itself and saves nothing; status 400.

    Elsewhere, the page of the error.
    """
    if request.endpoint not in FORMS:
        sentence = "Nothing has changed: the page was too old. Go back, reload it and try again."
        return show_error(exceptions.BadRequest(sentence))
    try:
        response: ResponseReturnValue = current_app.dispatch_request()
        return response
    except exceptions.HTTPException as refusal:
        return show_error(refusal)


def show_loss(_error: ObjectDeletedError) -> ResponseReturnValue:
    """The page of what somebody has deleted meanwhile; maybe it was one's account."""
    return show_error(exceptions.NotFound(), current_user=Visitor())


def show_failure(error: exceptions.InternalServerError) -> ResponseReturnValue:
    """The page of a fault of ours; Flask has logged its trace."""
    db.session.rollback()
    is_away = isinstance(error.original_exception, database.UNAVAILABLE)
    away = exceptions.ServiceUnavailable(retry_after=RETRY_AFTER)
    return show_error(away if is_away else error, current_user=Visitor())
