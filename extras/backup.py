"""`flask backup`: a copy of the database, while the blog runs."""

import shlex
from contextlib import suppress
from pathlib import Path

import click
from flask import Blueprint, current_app

from core.commands import Command, creating
from core.database import copy_sqlite, db
from core.plugins import Blog

LAST_BACKUP = "last_backup"  # a file in the instance folder, as old as the last backup

commands = Blueprint("backup", __name__, cli_group=None)


def init_app(app: Blog) -> None:
    """Plug in."""
    app.register_blueprint(commands)


@commands.cli.command("backup", cls=Command)
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the database to a new FILE, while the blog runs."""
    path, instance = db.engine.url.database, Path(current_app.instance_path)
    last_backup = instance / LAST_BACKUP
    if db.engine.dialect.name == "postgresql":
        source = db.engine.url.set(drivername="postgresql", password=None).render_as_string()
        line = shlex.join(["pg_dump", "--format=custom", f"--file={file}", source])
        raise click.ClickException(
            "PostgreSQL has a program for that, which asks for the password or takes it from "
            f"~/.pgpass:\n{line} && touch {shlex.quote(str(last_backup))}"
        )
    with creating(file):
        copy_sqlite(db.engine, file)
    with suppress(OSError):  # a full disk here spoils no copy elsewhere
        last_backup.touch()
    click.echo(
        f"{file} is a checked copy of the database. To restore it, stop the blog, delete "
        f"{path}-wal and {path}-shm, and put it in the place of {path}.\n"
        f"The secret key is not in it: keep a copy of {instance / 'secret_key'} too."
    )
