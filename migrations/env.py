"""Where Alembic finds the database: the app's, or the connection that the app upgrades with."""

from alembic import context

import models


def run(connection):
    context.configure(
        connection=connection, target_metadata=models.Base.metadata, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()


if connection := context.config.attributes.get("connection"):
    run(connection)
else:
    from app import create_app
    from database import db

    with create_app().app_context(), db.engine.connect() as connection:
        run(connection)
