"""How Alembic upgrades the database: one process at a time, and no row loses another."""

from contextlib import ExitStack
from pathlib import Path

from alembic import command, context
from alembic.util import to_tuple
from flask import Flask
from flask.cli import load_dotenv

from app import BUILT_IN_EXTRAS
from core import config, database
from core.database import Base, db
from core.plugins import load_extras


def pragma(connection, statement):
    """Send SQLite a statement outside of any transaction, where alone it has an effect."""
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.execute(statement)


def is_of_a_model(name, kind, _parents):
    """Whether Alembic is to compare this table; those of the search are made by its module."""
    return not (kind == "table" and name.startswith("search"))


def current_heads():
    """The database's revisions, none for a new one. RuntimeError if this release lacks one."""
    heads = sorted(context.get_context().get_current_heads())
    known = {script.revision for script in context.script.walk_revisions()}
    for revision in heads:
        if revision not in known:
            raise RuntimeError(
                f"It is of a newer release than this one, which does not know its step {revision}, "
                "or of an extra whose migration was deleted. Install that again, or put back a "
                "copy from before it."
            )
    return heads


def with_ancestors(heads):
    """The revisions, those that they follow, and those that they depend on."""
    found, todo = set(), list(heads)
    while todo:
        script = context.script.get_revision(todo.pop())
        found.add(script.revision)
        todo += to_tuple(script.down_revision, ()) + to_tuple(script.dependencies, ())
    return found


def copy_before(connection, heads):
    """Copy a SQLite database that is behind to a new file beside it; the file, or None."""
    # `alembic current` and its like upgrade nothing.
    options = context.config.cmd_opts
    is_upgrade = not options or options.cmd[0] is command.upgrade
    is_behind = heads and with_ancestors(heads) != with_ancestors(context.script.get_heads())
    if connection.dialect.name != "sqlite" or not is_upgrade or not is_behind:
        return None
    path = Path(f"{connection.engine.url.database}.before-{'-'.join(heads)}")
    if path.exists():  # that upgrade was taken back later, or its process killed
        path = path.with_name(f"{path.name}-{database.now():%Y%m%d-%H%M%S}")
    database.copy_sqlite(connection.engine, path)
    return path


def upgrade(engine):
    try:
        with engine.connect().execution_options(**database.WRITES) as connection:
            # Batch mode makes a table anew on SQLite, which would delete the rows that refer to it.
            pragma(connection, "PRAGMA foreign_keys = OFF")
            pragma(connection, f"PRAGMA busy_timeout = {database.UPGRADE_MAX}")
            context.configure(
                connection,
                target_metadata=Base.metadata,
                render_as_batch=False,  # it forgets AUTOINCREMENT and indexes of expressions
                include_name=is_of_a_model,
                transactional_ddl=True,  # else Alembic commits after each step on SQLite
            )
            with connection.begin(), ExitStack() as undo:
                database.advisory_lock(connection)
                if copy := copy_before(connection, current_heads()):
                    undo.callback(copy.unlink)  # needless, where the database stays as it was
                context.run_migrations()
                if connection.dialect.name == "sqlite":
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    if broken:
                        raise RuntimeError(f"Rows would refer to nothing: {broken}")
                undo.pop_all()
    finally:
        engine.dispose()  # also the connection without foreign keys


if engine := context.config.attributes.get("engine"):
    upgrade(engine)
else:
    # `alembic …` by hand: the app's database, without the app's own upgrade at start.
    load_dotenv()
    app = Flask("app", instance_path=config.instance_path(), instance_relative_config=True)
    config.load(app, {})
    # The tables of extras are in the migrations, also where they are off.
    load_extras("all", BUILT_IN_EXTRAS)
    load_extras(app.config["EXTRAS"], BUILT_IN_EXTRAS)
    database.connect(app)
    with app.app_context():
        upgrade(db.engine)
