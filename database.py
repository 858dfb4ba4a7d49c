"""The database: its connection, its time type, and its upgrade to this release's tables."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from flask import Flask, has_request_context, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, registry

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}  # RFC 9110 §9.2.1: they change nothing
BUSY_MAX = 5000  # milliseconds that a writer waits for the others on SQLite
CONNECT_MAX = 5  # seconds until an unreachable PostgreSQL server is given up
LOCK_KEY = 0x626C6F67  # "blog": our advisory lock on a PostgreSQL server that others share
# What is raised when the database cannot be reached, read or written just now.
AWAY = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)
UNAVAILABLE = (*AWAY, sqlite3.OperationalError)


class UTCDateTime(sa.TypeDecorator[datetime]):
    """An aware datetime in UTC, also on SQLite, which stores no zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


class Base(DeclarativeBase):
    """The base of every model; its constraints have names, by which migrations call them."""

    registry = registry(
        type_annotation_map={datetime: UTCDateTime},
        metadata=sa.MetaData(
            naming_convention={
                "pk": "pk_%(table_name)s",
                "fk": "fk_%(table_name)s_%(column_0_name)s",
                "ix": "ix_%(table_name)s_%(column_0_name)s",
                "ck": "ck_%(table_name)s_%(constraint_name)s",
            }
        ),
    )


# What is committed is not read again: that could wait, or fail, after the change is made.
db = SQLAlchemy(model_class=Base, session_options={"expire_on_commit": False})


def now() -> datetime:
    """The time, aware, in UTC."""
    return datetime.now(UTC)


def init_app(app: Flask) -> None:
    """Connect the app to its database and bring the tables up to date."""
    if app.config["SQLALCHEMY_DATABASE_URI"].startswith("postgresql"):
        limit = {"connect_args": {"connect_timeout": CONNECT_MAX}}
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = limit | app.config["SQLALCHEMY_ENGINE_OPTIONS"]
    db.init_app(app)
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            sa.event.listen(db.engine, "connect", _set_up_sqlite)
            sa.event.listen(db.engine, "begin", _begin_on_sqlite)
        alembic = Config(attributes={"engine": db.engine})
        alembic.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        command.upgrade(alembic, "head")


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin in _begin_on_sqlite, not in the driver
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MAX}")
    connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer don't wait
    connection.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_on_sqlite(connection: sa.Connection) -> None:
    """Begin a transaction: one that cannot write for a safe request, else the only writer.

    A deferred transaction that reads and then writes would lose the writes of others unseen.
    """
    safe = has_request_context() and request.method in SAFE_METHODS
    driver: Any = connection.connection.driver_connection
    driver.execute(f"PRAGMA query_only = {safe:d}")
    driver.execute("BEGIN" if safe else "BEGIN IMMEDIATE")


def wait_in_line(connection: sa.Connection) -> None:
    """Let one transaction at a time past this line; on SQLite a writer is alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK_KEY)))
