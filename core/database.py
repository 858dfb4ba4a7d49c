"""The database: its connection, its time type, and its upgrade to this release's tables."""

import os
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from uuid import UUID, uuid4

import click
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry

from core import database_url
from core.config import SettingError, using

MIGRATIONS = Path(__file__).parents[1] / "migrations"
BUSY_MAX = 10_000  # milliseconds that a writer waits for the others on SQLite
UPGRADE_MAX = 600_000  # milliseconds that other processes wait while one upgrades SQLite
POOL_MAX = 5  # seconds that a request waits for a connection; then 503
CONNECT_MAX = 5  # seconds that PostgreSQL has to accept a connection
LOCK_KEY = 0x626C6F67  # "blog": our advisory lock on a PostgreSQL server that others share
BLOG_ID = "blog id"  # the name of the random id in Metadata
WRITES = {"writes": True}  # the execution options of a connection whose transaction writes
# What is raised when the database cannot be reached, read or written just now.
AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)
UNAVAILABLE = (*AWAY, sqlite3.OperationalError)
NAMES = {  # of constraints, by which migrations call them
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}


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


class Metadata(Base):
    """What the blog notes about its database, such as the version of the search index."""

    __tablename__ = "metadata"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


Model = TypeVar("Model", bound=Base)
# What is committed is not read again: that could wait, or fail, after the change is made.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})
_writer = Lock()  # of this process on SQLite


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask) -> None:
    """Connect the app to its database and bring the tables up to date.

    SettingError where its URL is wrong, UpgradeError where that cannot be done.
    """
    connect(app)
    alembic = Config()
    alembic.set_main_option("script_location", str(MIGRATIONS))
    with upgrading(app, Exception):  # whatever the server, the disk or a migration raises
        alembic.attributes["engine"] = db.engine
        is_new = _is_new()
        command.upgrade(alembic, "heads")
        _make_blog_id()
        if is_new:
            sentence = "A new database was made: %s. The first account will own the blog."
            app.logger.warning(sentence, location())


@contextmanager
def upgrading(app: Flask, kind: type[Exception]) -> Iterator[None]:
    """The app's context, in which errors of that kind become an UpgradeError."""
    with app.app_context():
        try:
            yield
        except click.ClickException:
            raise
        except kind as error:
            reason = getattr(error, "orig", error)  # without SQLAlchemy's SQL and links
            sentence = f"Not upgraded, the database is as it was: {reason} ({location()})"
            raise UpgradeError(sentence) from error


def connect(app: Flask) -> None:
    """Connect the app to its database as it is; SettingError where the URL is wrong."""
    url = database_url.parse(app.config["SQLALCHEMY_DATABASE_URI"])
    app.config["SQLALCHEMY_DATABASE_URI"] = url.render_as_string(hide_password=False)
    options: dict[str, Any] = {
        "hide_parameters": True,  # password hashes stay out of the log
        "pool_size": app.config["THREADS"],
        "max_overflow": 0,  # more connections than threads are never used
        "pool_timeout": POOL_MAX,
    }
    if url.get_backend_name() == "postgresql":
        # Asked before each use, a server that was restarted costs no request.
        options |= {"connect_args": {"connect_timeout": CONNECT_MAX}, "pool_pre_ping": True}
    else:
        options |= _options_of_sqlite(app, Path(app.instance_path, str(url.database)))
    given = app.config.get("SQLALCHEMY_ENGINE_OPTIONS", {})
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options | given
    try:
        db.init_app(app)
    except ModuleNotFoundError as error:
        raise SettingError("PostgreSQL needs a driver here: pip install psycopg") from error
    with app.app_context():
        engine = db.engine
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_on_sqlite)
    # The last connection that closes leaves one file of SQLite, which a backup can replace.
    Finalize(app, engine.dispose, exitpriority=0)
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=partial(_forget_connections, weakref.ref(engine)))


def _options_of_sqlite(app: Flask, path: Path) -> dict[str, Any]:
    """The engine's options for that file, which is made, and the instance folder for it."""
    with using(path.parent):
        if path.parent == Path(app.instance_path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.parent.is_dir():
            raise SettingError(f"There is no folder {path.parent} for the database. Make it first.")
        if not path.exists():
            path.touch(mode=0o600)  # SQLite would let all read it
    if os.access(path, os.W_OK) or os.access(path.parent, os.W_OK):
        return {}
    others = [path.with_name(f"{path.name}-{suffix}") for suffix in ("journal", "shm", "wal")]
    if any(other.exists() and other.stat().st_size for other in others):
        return {}  # another process has it open, or there are changes that SQLite has to apply
    # SQLite cannot lock it, and need not: nobody changes it.
    source = f"{path.resolve().as_uri()}?immutable=1"
    return {"creator": partial(sqlite3.connect, source, uri=True, check_same_thread=False)}


def location() -> str:
    """Where the database is: the file, or the URL without its passwords."""
    url = db.engine.url.difference_update_query(["password", "sslpassword"])
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string()


def _is_new() -> bool:
    """Whether the blog has no tables yet; SettingError if its URL leads to no PostgreSQL."""
    try:
        return not sa.inspect(db.engine).has_table("alembic_version")
    except (sa.exc.DBAPIError, TypeError) as error:
        # TypeError is for an option of the URL that the driver does not take as text.
        if db.engine.dialect.name == "postgresql":
            raise database_url.explain(error) from error
        raise


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # `_begin_on_sqlite` begins transactions, not the driver
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MAX}")
    connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer don't wait
    connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_on_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction, with the write lock if it `writes`: to get it later could fail."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _forget_connections(engine: "weakref.ref[sa.Engine]") -> None:
    """In a forked process, open new connections instead of the parent's."""
    if found := engine():
        # SQLite mixes up old connections with new ones in one process, so it closes the old.
        # To close one of PostgreSQL's would end the parent's.
        found.dispose(close=found.dialect.name == "sqlite")


def blog_id() -> UUID:
    """The random id of the blog, from which ids that never change are made."""
    return UUID(db.session.get_one(Metadata, BLOG_ID).value)


def set_blog_id(id: UUID) -> None:
    """Make this the blog of that id, when the transaction is committed."""
    db.session.merge(Metadata(name=BLOG_ID, value=str(id)))


def _make_blog_id() -> None:
    if db.session.get(Metadata, BLOG_ID):
        return
    with atomic():
        advisory_lock(db.session.connection())  # of processes that start at once, one makes it
        if not db.session.get(Metadata, BLOG_ID):
            set_blog_id(uuid4())


@contextmanager
def atomic() -> Iterator[None]:
    """A transaction that writes: committed at the end, rolled back on an exception.

    All rows are read again in it. On SQLite it is a new transaction, with the write lock, which one
    writer has at a time. The writers of this process queue for a lock of ours, since SQLite's own
    waiting is not fair. On PostgreSQL the request's transaction goes on, which saves three messages
    to the server. sqlite3.OperationalError when the earlier writers take too long.
    """
    is_sqlite = db.engine.dialect.name == "sqlite"
    if is_sqlite:
        db.session.rollback()
        if not _writer.acquire(timeout=BUSY_MAX / 1000):
            raise sqlite3.OperationalError("the writers before this one take too long")
    try:
        db.session.expire_all()
        db.session.connection(execution_options=WRITES if is_sqlite else None)
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise
    finally:
        if is_sqlite:
            _writer.release()


def lock_or_404(model: type[Model], id: int) -> Model:
    """The row as it is now, locked until the commit; 404 if it was deleted."""
    return db.get_or_404(model, id, with_for_update={"of": model})


def advisory_lock(connection: sa.Connection) -> None:
    """Let one transaction at a time continue, of all servers; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_KEY)))


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
        # One statement reads one state, while others write. SQLite's backup API starts again
        # after each of their writes, and copies what was deleted.
        driver.execute("VACUUM INTO ?", [str(draft)])
        _check(draft)
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        path.touch(mode=0o600, exist_ok=False)  # reserves the name; not all disks have links
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
