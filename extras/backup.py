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
        with creating(file):
            line = pg_dump_line(file, last_backup)
        raise click.ClickException(
            "PostgreSQL has a program for that, which asks for the password, or takes it from "
            f"PGPASSWORD or ~/.pgpass. Run this line:\n{line}"
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


def pg_dump_line(file: Path, last_backup: Path) -> str:
    """The line of shell that copies the database on PostgreSQL, without a password in it.

    FileExistsError if the file is there: pg_dump empties it before it asks for a password.
    """
    if file.exists():
        raise FileExistsError(file)
    source = connection_string()
    dump = ["pg_dump", "--format=custom", f"--file={file}", f"--dbname={source}"]
    mkdir, touch = ["mkdir", "-p", str(last_backup.parent)], ["touch", str(last_backup)]
    # There are password hashes in the copy, and pg_dump would let others read it.
    return f"(umask 077 && {' && '.join(map(shlex.join, [dump, mkdir, touch]))})"


def connection_string() -> str:
    """What leads PostgreSQL's own programs to the database, without a password."""
    # Imported here: a blog on SQLite runs without the driver.
    from psycopg.conninfo import make_conninfo
    from psycopg.pq import Conninfo

    _, parameters = db.engine.dialect.create_connect_args(db.engine.url)
    # libpq marks passwords by an asterisk. What it does not know is for the driver.
    options = Conninfo.get_defaults()
    public = {option.keyword.decode() for option in options if option.dispchar != b"*"}
    return make_conninfo(**{name: parameters[name] for name in parameters if name in public})
