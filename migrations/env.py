"""How Alembic upgrades the database: one process at a time, and no row loses another."""

from alembic import context
from flask import Flask

import config
import models
from database import db, wait_in_line


def pragma(connection, statement):
    """Send SQLite a statement outside of any transaction, where alone it has an effect."""
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.execute(statement)


def is_of_a_model(name, kind, _parents):
    """Whether Alembic is to compare this table; the first migration made those of the search."""
    return not (kind == "table" and name.startswith("search"))


def upgrade(engine):
    try:
        with engine.connect() as connection:
            # On SQLite a changed table is rebuilt, which would delete the rows that refer to it.
            pragma(connection, "PRAGMA foreign_keys = OFF")
            context.configure(
                connection,
                target_metadata=models.Base.metadata,
                render_as_batch=True,
                include_name=is_of_a_model,
            )
            with connection.begin():
                wait_in_line(connection)
                context.run_migrations()
                if connection.dialect.name == "sqlite":
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    if broken:
                        raise RuntimeError(f"Not upgraded, rows would refer to nothing: {broken}")
    finally:
        engine.dispose()  # also the connection without foreign keys


if engine := context.config.attributes.get("engine"):
    upgrade(engine)
else:
    # `alembic …` by hand: the app's database, without the app's own upgrade at start.
    app = Flask("app", instance_relative_config=True)
    config.load(app, {})
    db.init_app(app)
    with app.app_context():
        upgrade(db.engine)
