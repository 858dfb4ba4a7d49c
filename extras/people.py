"""The owner's pages about people: roles, bans, invitations, and links for a new password."""

import hashlib
import secrets
from datetime import timedelta

import click
import sqlalchemy as sa
from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from core.commands import Command
from core.database import atomic, db
from core.pagination import ID_MAX, parse_id
from core.plugins import Blog
from core.security import hash_password, private, sign, verify
from core.urls import absolute
from forms import Form, PasswordForm
from models import DELETED_PREFIX, User

PEOPLE_MAX = 50  # on a page
INVITATION_DAYS, RESET_HOURS = 7, 1  # until a link ends
LOCAL_URL = "http://127.0.0.1:8000/"  # where `flask serve` listens
ROLES = {"member": "comment", "author": "post and comment", "owner": "do everything"}
LINK_OVER = "This link has been used, or its time is over. Ask the owner for another."

# Pages below /owner/ are hidden from everybody else by `app.hide_owner_pages`.
pages = Blueprint("owner", __name__, url_prefix="/owner", cli_group=None)
links = Blueprint("password", __name__)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.slots["owner_navigation"].append("people/navigation.html")
    app.register_blueprint(pages)
    app.register_blueprint(links)


@pages.get("/people", endpoint="people")
def list_people() -> ResponseReturnValue:
    """Every account, the newest first."""
    before = request.args.get("before", ID_MAX, type=parse_id)
    query = sa.select(User).order_by(User.id.desc()).limit(PEOPLE_MAX + 1)
    found = db.session.scalars(query.where(User.id < before)).all()
    older = found[PEOPLE_MAX - 1].id if len(found) > PEOPLE_MAX else None
    return render_template("people/list.html", users=found[:PEOPLE_MAX], older=older)


@pages.get("/people/<username>", endpoint="person")
def show_person(username: str) -> ResponseReturnValue:
    """One account, and what can be done to it."""
    user = db.first_or_404(User.named(username))
    return render_template("people/show.html", user=user, roles=ROLES)


@pages.post("/people/<username>/role", endpoint="change_role")
def change_role(username: str) -> ResponseReturnValue:
    """Let the account own the site, post, or only comment."""
    role = request.form.get("role")
    with atomic():
        user = existing_user(username)
        if role not in ROLES:
            abort(400, "There is no such role.")
        if role != "owner" and user.is_only_owner():
            abort(403, "This is the only owner. Make somebody else an owner first.")
        user.role = role
    return redirect_to(user, f"{user.username} is {user.role} now.")


@pages.post("/people/<username>/ban", endpoint="ban")
def ban(username: str) -> ResponseReturnValue:
    """Log the account out and hide what it wrote."""
    with atomic():
        user = existing_user(username)
        if user.is_owner:
            abort(403, "An owner cannot be banned, nor ban themselves. Change the role first.")
        user.ban()
    return redirect_to(user, f"{user.username} is banned.")


@pages.post("/people/<username>/unban", endpoint="unban")
def unban(username: str) -> ResponseReturnValue:
    """Let the account in again, and show again what it wrote."""
    with atomic():
        user = existing_user(username)
        user.banned_at = None
    return redirect_to(user, f"{user.username} is not banned any more.")


@pages.route("/people/<username>/remove", methods=["GET", "POST"], endpoint="remove")
def remove_texts(username: str) -> ResponseReturnValue:
    """Ask, then delete everything that the account wrote."""
    if request.method == "GET":
        user = existing_user(username)
        return render_template("people/remove.html", user=user, form=Form())
    with atomic():
        user = existing_user(username)
        user.delete_texts()
    return redirect_to(user, f"All that {user.username} wrote is deleted.")


def existing_user(username: str) -> User:
    """The user; 404 if there is none, or the account was deleted."""
    query = User.named(username).where(~User.username.startswith(DELETED_PREFIX))
    user: User = db.first_or_404(query)
    return user


def redirect_to(user: User, sentence: str) -> ResponseReturnValue:
    """Say what was done, and lead back to the account's page."""
    flash(sentence)
    return redirect(url_for("owner.person", username=user.username), 303)


# Invitations --------------------------------------------------------------------------------------


def invitation_token(may: str, days: int = INVITATION_DAYS) -> str:
    """For a link by which one account can be made; `may` is "post" or "comment"."""
    return sign("invitation", timedelta(days=days), {"id": secrets.token_urlsafe(9), "may": may})


@pages.post("/people", endpoint="invite")
def invite() -> ResponseReturnValue:
    """Make a link by which one person can sign up, whatever BLOG_SIGNUP says but "closed"."""
    may = request.form.get("may", current_app.config["NEW_ACCOUNTS_MAY"])
    if may not in ("post", "comment"):
        abort(400, "An invitation is to post or to comment.")
    link = absolute(url_for("auth.sign_up", invitation=invitation_token(may)))
    lifetime = f"{INVITATION_DAYS} days"
    return render_template("people/link.html", link=link, heading="Invitation", lifetime=lifetime)


@pages.cli.command("invite")
@click.option("--days", type=click.IntRange(1, 365), default=INVITATION_DAYS, help="Until it ends.")
@click.option("--may", type=click.Choice(["post", "comment"]), help="What the new account may do.")
def print_invitation(days: int, may: str | None) -> None:
    """Print a link by which one person can sign up."""
    if current_app.config["SIGNUP"] == "closed":
        raise click.ClickException("Sign-up is closed, for the invited too: BLOG_SIGNUP=invite.")
    token = invitation_token(may or current_app.config["NEW_ACCOUNTS_MAY"], days)
    click.echo(public_url("auth.sign_up", invitation=token))


def public_url(endpoint: str, **values: str) -> str:
    """The whole URL of a page, as far as the settings tell it."""
    with current_app.test_request_context(base_url=current_app.config["URL"] or LOCAL_URL):
        return url_for(endpoint, **values, _external=True)


# Links for a new password -------------------------------------------------------------------------


def reset_token(user: User) -> str:
    """For a link by which the user sets a new password, once."""
    # "mark" is what links that were sent before have, too.
    claims: dict[str, str | int] = {"user": user.id, "mark": digest(user.password_hash)}
    return sign("reset", timedelta(hours=RESET_HOURS), claims)


def digest(password_hash: str) -> str:
    """A digest of the stored hash: the link ends when the password changes."""
    return hashlib.blake2b(password_hash.encode(), digest_size=16).hexdigest()


def user_of_reset(token: str) -> User:
    """The user whom the token lets set a new password, locked until the commit; else 404."""
    claims = verify("reset", token)
    query = sa.select(User).where(User.id == claims.get("user", 0)).with_for_update()
    user = db.session.scalar(query)
    if not user or claims["mark"] != digest(user.password_hash):
        abort(404, LINK_OVER)
    return user


@pages.post("/people/<username>/reset", endpoint="reset")
def make_reset_link(username: str) -> ResponseReturnValue:
    """Make a link by which the person can set a new password."""
    token = reset_token(existing_user(username))
    link = absolute(url_for("password.reset", token=token))
    lifetime = f"{RESET_HOURS} hour"
    return render_template("people/link.html", link=link, heading="New password", lifetime=lifetime)


@pages.cli.command("reset-link", cls=Command)
@click.argument("name")
def print_reset_link(name: str) -> None:
    """Print a link for a new password of the user NAME."""
    user = db.session.scalar(User.named(name))
    if not user:
        raise click.ClickException(f"There is no account called {name}.")
    click.echo(public_url("password.reset", token=reset_token(user)))


@links.route("/password/<token>", methods=["GET", "POST"], endpoint="reset")
@private
def reset_password(token: str) -> ResponseReturnValue:
    """Set a new password through a link of the owner's, once. 404 if it is over."""
    user = user_of_reset(token)
    form = PasswordForm()
    form.account_name = user.username
    if not form.validate_on_submit():
        return render_template("people/password.html", form=form), form.status
    password_hash = hash_password(form.password.data)
    with atomic():
        user_of_reset(token).change_password(password_hash)
    flash("Your password is changed. Log in with the new one.")
    return redirect(url_for("auth.log_in"), 303)
