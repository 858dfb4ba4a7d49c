"""The owner's pages: people, invitations, comments that wait. For everybody else, 404."""

import sqlalchemy as sa
from flask import Blueprint, abort, current_app, flash, g, redirect, request, url_for
from flask import render_template as render
from flask.typing import ResponseReturnValue
from flask_login import current_user

import security
from database import atomic, db
from forms import Form
from models import GONE, ID_MAX, Comment, User, id_of

PEOPLE_MAX = 50  # on a page
WAITING_MAX = 20  # comments on a page; each decision leads to the next

ROLES = {"member": "comment", "author": "post and comment", "owner": "do everything"}

pages = Blueprint("owner", __name__, url_prefix="/owner")


@pages.before_app_request
def admit_owners_alone() -> None:
    """404 for everybody else, whatever is there."""
    if not request.path.startswith(f"{pages.url_prefix}/"):
        return
    if not current_user.is_owner:
        abort(404)
    g.is_private = True


# People -------------------------------------------------------------------------------------------


@pages.get("/people")
def people() -> ResponseReturnValue:
    """Every account, the newest first."""
    before = request.args.get("before", ID_MAX, type=id_of)
    query = sa.select(User).order_by(User.id.desc()).limit(PEOPLE_MAX + 1)
    found = db.session.scalars(query.where(User.id < before)).all()
    more = found[PEOPLE_MAX - 1].id if len(found) > PEOPLE_MAX else None
    return render("people.html", people=found[:PEOPLE_MAX], more=more)


@pages.post("/people")
def invite() -> ResponseReturnValue:
    """Make a link by which one person can sign up, whatever BLOG_SIGNUP says but "closed"."""
    may = request.form.get("may", current_app.config["NEW_ACCOUNTS_MAY"])
    if may not in ("post", "comment"):
        abort(400, "An invitation is to post or to comment.")
    link = url_for("blog.sign_up", invitation=security.invitation_token(may), _external=True)
    return render("link.html", link=link, heading="Invitation", days=security.INVITATION_DAYS)


@pages.get("/people/<username>")
def person(username: str) -> ResponseReturnValue:
    """One account, and what can be done to it."""
    user = db.first_or_404(User.named(username))
    return render("person.html", person=user, roles=ROLES)


@pages.post("/people/<username>/role")
def change_role(username: str) -> ResponseReturnValue:
    """Let the account own the site, post, or only comment."""
    role = request.form.get("role")
    with atomic():
        user = account(username)
        if role not in ROLES:
            abort(400, "There is no such role.")
        if role != "owner" and user.is_only_owner():
            abort(403, "This is the only owner. Make somebody else an owner first.")
        user.role = role
    return done(user, f"{user.username} is {user.role} now.")


@pages.post("/people/<username>/ban")
def ban(username: str) -> ResponseReturnValue:
    """Put the account out and hide what it wrote."""
    with atomic():
        user = account(username)
        if user.is_owner:
            abort(403, "An owner cannot be banned, nor ban themselves. Change the role first.")
        user.ban()
    return done(user, f"{user.username} is banned.")


@pages.post("/people/<username>/unban")
def unban(username: str) -> ResponseReturnValue:
    """Let the account in again, and show again what it wrote."""
    with atomic():
        user = account(username)
        user.banned_at = None
    return done(user, f"{user.username} is not banned any more.")


@pages.route("/people/<username>/remove", methods=["GET", "POST"])
def remove(username: str) -> ResponseReturnValue:
    """Ask, then delete everything that the account wrote."""
    if request.method == "GET":
        return render("remove.html", person=account(username), form=Form())
    with atomic():
        user = account(username)
        user.remove_texts()
    return done(user, f"All that {user.username} wrote is deleted.")


@pages.post("/people/<username>/reset")
def reset(username: str) -> ResponseReturnValue:
    """Make a link by which the person can set a new password."""
    token = security.reset_token(account(username))
    link = url_for("blog.reset_password", token=token, _external=True)
    return render("link.html", link=link, heading="New password", hours=security.RESET_HOURS)


def account(username: str) -> User:
    """The account; 404 if there is none, or none any more."""
    query = User.named(username).where(~User.username.startswith(GONE))
    user: User = db.first_or_404(query)
    return user


def done(user: User, sentence: str) -> ResponseReturnValue:
    """Say what was done, and lead back to the account's page."""
    flash(sentence)
    return redirect(url_for("owner.person", username=user.username), 303)


# Moderation ---------------------------------------------------------------------------------------


@pages.get("/moderation")
def moderation() -> ResponseReturnValue:
    """The comments that wait, oldest first."""
    waiting = db.session.scalars(Comment.waiting().limit(WAITING_MAX)).all()
    return render("moderation.html", comments=waiting)


@pages.post("/moderation/<id:id>")
def decide(id: int) -> ResponseReturnValue:
    """Approve or delete a comment that waits, or ban its writer; then on to the next."""
    action = request.form.get("action")
    with atomic():
        query = Comment.waiting().where(Comment.id == id).with_for_update(of=Comment)
        comment = db.session.scalar(query)
        if comment and action == "approve":
            approve(comment)
        elif comment and action == "delete":
            db.session.delete(comment)
        elif comment and action == "ban" and not comment.author.is_owner:
            comment.author.ban()
    return redirect(url_for("owner.moderation"), 303)


def approve(comment: Comment) -> None:
    """Show a comment, if its text is the one that was read."""
    if comment.is_as_in(request.form):
        comment.state = "shown"
    else:
        flash("The comment was changed meanwhile. Read it again.")
