"""Export and import: `flask export`, `flask import`, and the download of one's own data."""

from io import BytesIO
from pathlib import Path

import click
import sqlalchemy as sa
from flask import Blueprint, current_app, send_file
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from core.commands import Command, creating, progress
from core.database import db
from core.plugins import Blog
from core.security import private
from models import User

# The exporter and the importer are imported inside the functions that use them: at the top, they
# would make the start of the blog a third longer.
pages = Blueprint("porting", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.slots["account_links"].append("porting/account_link.html")
    app.slots["delete_account"].append("porting/delete_account.html")
    app.register_blueprint(pages)


@pages.get("/account/export", endpoint="export")
@private
@login_required
def export_account() -> ResponseReturnValue:
    """The user's own data as a zip: the account, posts, comments and pictures."""
    from porting.exporter import export

    file = BytesIO()
    export(file, current_user.id)
    file.seek(0)
    name = f"{current_user.username}.zip"
    return send_file(file, download_name=name, as_attachment=True, conditional=False, etag=False)


@pages.cli.command("export", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def export_blog(file: Path) -> None:
    """Write the whole blog to a new FILE.zip.

    It holds posts as Markdown, users and comments as JSON lines, and pictures.
    """
    from porting.exporter import export

    with creating(file):
        file.touch(mode=0o600, exist_ok=False)  # the password hashes are for its owner only
        try:
            with file.open("wb") as target:
                export(target, progress=progress)
        except BaseException:  # also Ctrl-C: an incomplete export is of no use
            file.unlink()
            raise
    click.echo(f"{file} holds the blog. It has password hashes in it: keep it to yourself.")


@pages.cli.command("import", cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option("--author", default="", help="Whose posts are those that name no author.")
@click.option("--owner", default="", help="Whose an empty blog becomes.")
@click.option("--verbose", is_flag=True, help="Name the place of what was changed or left out.")
def import_blog(file: Path, author: str, owner: str, verbose: bool) -> None:
    """Add what an export, WordPress or Markdown files hold.

    FILE is an export of a blog or of WordPress, or a folder or zip of Markdown files. It can be
    repeated.

    The exit status is 1 when anything was left out that a person wrote.
    """
    from porting.importer import load

    is_empty = not User.any_exists()
    try:
        report = load(file, current_app.config["ZONE"], author, progress, owner)
    except (ValueError, OSError) as error:
        raise click.ClickException(f"Nothing was imported: {error}") from error
    except sa.exc.DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        raise click.ClickException(f"Not finished: {reason}. Repeat it to go on.") from error
    sentences = [*(report.details if verbose else []), *report.sentences()]
    for sentence in [*(_owner_sentences() if is_empty else []), *sentences]:
        # The name of a file may contain bytes that are not valid text.
        click.echo(sentence.encode(errors="replace").decode())
    click.get_current_context().exit(0 if report.is_complete else 1)


def _owner_sentences() -> list[str]:
    """Whose an empty blog has become, and how they log in."""
    from porting.writer import NO_PASSWORD

    owners = sa.select(User).where(User.role == "owner").order_by(User.id)
    sentences = []
    for owner in db.session.scalars(owners):
        sentences.append(f"This blog is {owner.username}'s now.")
        if owner.password_hash == NO_PASSWORD:
            sentences.append(f"flask reset-link {owner.username} gives the account a password.")
    return sentences
