"""The database: its connection, its time type, and its upgrade to this release's tables."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import click
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from flask import Flask, before_render_template, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, registry

MIGRATIONS = Path(__file__).parent / "migrations"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # RFC 9110 §9.2.1: they change nothing
BUSY_MAX = 10_000  # milliseconds that a writer waits for the others on SQLite
UPGRADE_MAX = 600_000  # milliseconds that other processes wait while one upgrades SQLite
CONNECT_MAX = 5  # seconds until an unreachable PostgreSQL server is given up
LOCK_KEY = 0x626C6F67  # "blog": our advisory lock on a PostgreSQL server that others share
COUNTING = 1  # the line in which those wait who count; sign-ups have another
# What is raised when the database cannot be reached, read or written just now.
AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)
UNAVAILABLE = (*AWAY, sqlite3.OperationalError)
NAMES = {  # of constraints, by which migrations call them
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
Row = TypeVar("Row")


class UpgradeError(click.ClickException, RuntimeError):
    """Why the blog does not start. `flask` shows it as a sentence, without a traceback."""


class UTCDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC, also on SQLite, which stores no zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class Base(DeclarativeBase):
    """The base of every model."""

    registry = registry(
        type_annotation_map={datetime: UTCDateTime}, metadata=sa.MetaData(naming_convention=NAMES)
    )


# What is committed is not read again: that could wait, or fail, after the change is made.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask) -> None:
    """Connect the app to its database and bring the tables up to date, else UpgradeError."""
    connect(app)
    with app.app_context():
        alembic = Config(attributes={"engine": db.engine})
        alembic.set_main_option("script_location", str(MIGRATIONS))
        try:
            command.upgrade(alembic, "head")
        except Exception as error:  # whatever the server, the disk or a migration raises
            reason = getattr(error, "orig", error)  # without SQLAlchemy's SQL and links
            raise UpgradeError(f"Not upgraded, the database is as it was: {reason}") from error


def connect(app: Flask) -> None:
    """Connect the app to its database as it is."""
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql"):
        # Asked before each use, a server that was restarted costs no request.
        server = {"connect_args": {"connect_timeout": CONNECT_MAX}, "pool_pre_ping": True}
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = server | app.config["SQLALCHEMY_ENGINE_OPTIONS"]
    db.init_app(app)
    before_render_template.connect(_end_writing, app)
    with app.app_context():
        # Who closes SQLite last leaves one file, in whose place a backup can be put.
        Finalize(app, db.engine.dispose, exitpriority=0)
        if db.engine.dialect.name == "sqlite":
            queue = Lock()
            sa.event.listen(db.engine, "connect", _set_up_sqlite)
            sa.event.listen(db.engine, "begin", _begin_on_sqlite)
            sa.event.listen(db.engine, "before_cursor_execute", partial(_write_on_sqlite, queue))
            sa.event.listen(db.engine, "checkin", partial(_leave_sqlite, queue))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in the listeners, not in the driver
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MAX}")
    connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer don't wait
    connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_on_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction for a safe request: it reads one state, and cannot write.

    Any other reads what is committed, as on PostgreSQL, until `_write_on_sqlite`.
    """
    counts = connection.get_execution_options().get("counts")
    safe = not counts and has_request_context() and request.method in SAFE_METHODS
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA query_only = {safe:d}")
    if safe:
        driver.execute("BEGIN")


def _write_on_sqlite(
    queue: Lock, connection: sa.Connection, _cursor: Any, sql: str, *others: Any
) -> None:
    """Before it locks or writes, become the only writer; those of one process come in turn.

    SQLite alone lets those who wait sleep and try again, so that some wait very long.
    """
    driver: Any = connection.connection.driver_connection
    is_read = sql.lstrip().startswith(("SELECT", "WITH", "PRAGMA"))
    if driver.in_transaction or (is_read and not others[1].execution_options.get("locks")):
        return
    if not queue.acquire(timeout=BUSY_MAX / 1000):
        raise sqlite3.OperationalError("the writers before this one take too long")
    connection.connection.info["writes"] = True
    driver.execute("BEGIN IMMEDIATE")


def _leave_sqlite(queue: Lock, _connection: Any, record: Any) -> None:
    """Let the next writer go, if this one was."""
    if record.info.pop("writes", False):
        queue.release()


def _end_writing(_app: Flask, **_context: Any) -> None:
    """Render no page inside of a transaction that others wait for."""
    if has_request_context() and request.method not in SAFE_METHODS:
        db.session.rollback()


def locked(query: sa.Select[Row], **how: Any) -> sa.Select[Row]:
    """The query for rows, read anew, that nobody else changes until the commit.

    `how` is that of SQLAlchemy's `with_for_update`.
    """
    return query.with_for_update(**how).execution_options(locks=True, populate_existing=True)


@contextmanager
def counting() -> Iterator[None]:
    """A transaction of its own, one at a time, which may count what a safe request asks for.

    What the session has changed before is lost.
    """
    db.session.rollback()
    with db.session.begin():
        wait_in_line(db.session.connection(execution_options={"counts": True}), COUNTING)
        yield


def wait_in_line(connection: sa.Connection, line: int = 0) -> None:
    """Let one transaction at a time past this line; on SQLite, all lines are one."""
    is_sqlite = connection.dialect.name == "sqlite"
    key = sa.func.abs(0) if is_sqlite else sa.func.pg_advisory_xact_lock(LOCK_KEY + line)
    connection.execute(sa.select(key).execution_options(locks=True))


def copy_sqlite(engine: sa.Engine, path: Path) -> None:
    """Copy a SQLite database, as it is at one moment, to a new file: checked and whole, or not.

    FileExistsError if something is there, another OSError or sqlite3.Error if it cannot be done.
    """
    if path.exists():
        raise FileExistsError(path)
    with (
        tempfile.TemporaryDirectory(prefix="unfinished-copy-", dir=path.parent) as folder,
        closing(engine.raw_connection()) as connection,
    ):
        draft = Path(folder) / path.name
        draft.touch(mode=0o600)  # it holds password hashes
        driver: Any = connection.driver_connection
        driver.execute("PRAGMA query_only = 0")
        # One statement reads one state, however many write meanwhile. SQLite's backup API begins
        # again after each of their writes, and takes along what people have deleted.
        driver.execute("VACUUM INTO ?", [str(draft)])
        _check(draft)
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        path.touch(mode=0o600, exist_ok=False)  # takes the name; not all disks know links
        draft.replace(path)
    # The name has to survive a power cut, too.
    with suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def _check(path: Path) -> None:
    """sqlite3.IntegrityError if the database is damaged."""
    checks = ("PRAGMA integrity_check", "PRAGMA foreign_key_check")
    with closing(sqlite3.connect(path)) as copy:
        faults = [row for check in checks for row in copy.execute(check) if row != ("ok",)]
    if faults:
        raise sqlite3.IntegrityError(f"the database is damaged: {faults[:3]}")
