"""A ban is a rule of the queries; forms are known again; Python writes the tags and the search.

The tables of the search are made by its module when the blog starts.
"""

import sqlalchemy as sa
from alembic import op

from core import database

revision = "0004"
down_revision = "0003"

NEVER = "9999-12-31 00:00:00"
BANNED = sa.text("banned_at IS NOT NULL")
PICTURED = sa.text("body LIKE '%/pictures/%'")
TRIGGERS = ("post_added", "post_removed", "post_changed")


def step(revision):
    """The module of an earlier migration."""
    return op.get_context().script.get_revision(revision).module


def is_sqlite():
    return op.get_bind().dialect.name == "sqlite"


def upgrade():
    if is_sqlite():
        for name in TRIGGERS:
            op.execute(f"DROP TRIGGER {name}")
        op.execute("DROP TABLE search")
    else:
        op.execute("DROP TRIGGER post_changed ON posts")
        op.execute("DROP TABLE search")
        op.execute("DROP FUNCTION post_changed, fold")
    op.drop_table("refusals")
    op.drop_table("attempts")
    op.create_table(
        "metadata",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_metadata"),
    )

    op.execute("UPDATE users SET banned_at = NULL WHERE username LIKE 'deleted-%'")
    op.create_index(
        "ix_users_banned", "users", ["id"], sqlite_where=BANNED, postgresql_where=BANNED
    )

    op.execute("UPDATE posts SET published_at = withheld_at WHERE withheld_at IS NOT NULL")
    # The triggers have followed bans: the tags of posts that were withheld say "never".
    op.execute(
        "UPDATE tags SET published_at = "
        "(SELECT published_at FROM posts WHERE posts.id = tags.post_id)"
    )
    op.drop_column("posts", "withheld_at")
    op.drop_index("ix_posts_created_at", "posts")
    op.drop_index("ix_posts_has_pictures", "posts")
    op.drop_column("posts", "has_pictures")
    op.create_index(
        "ix_posts_pictures", "posts", ["id"], sqlite_where=PICTURED, postgresql_where=PICTURED
    )
    op.add_column("posts", sa.Column("edited_at", database.UTCDateTime))
    op.add_column("posts", sa.Column("submission", sa.String))
    op.create_index("uq_posts_submission", "posts", ["author_id", "submission"], unique=True)

    op.execute("UPDATE comments SET state = 'shown' WHERE state = 'banned'")
    op.add_column("comments", sa.Column("submission", sa.String))
    op.create_index("uq_comments_submission", "comments", ["author_id", "submission"], unique=True)
    op.drop_index("ix_comments_post_id", "comments")
    op.create_index("ix_comments_post_id", "comments", ["post_id", "state", "id", "author_id"])


def downgrade():
    op.drop_index("ix_comments_post_id", "comments")
    op.create_index("ix_comments_post_id", "comments", ["post_id", "state", "id"])
    op.drop_index("uq_comments_submission", "comments")
    op.drop_column("comments", "submission")

    op.drop_index("uq_posts_submission", "posts")
    op.drop_column("posts", "submission")
    op.drop_column("posts", "edited_at")
    op.drop_index("ix_posts_pictures", "posts")
    op.add_column(
        "posts",
        # SQLite cannot add one that is stored.
        sa.Column(
            "has_pictures",
            sa.Boolean,
            sa.Computed("body LIKE '%/pictures/%'", persisted=not is_sqlite()),
        ),
    )
    op.create_index("ix_posts_has_pictures", "posts", ["has_pictures"])
    op.create_index("ix_posts_created_at", "posts", ["author_id", "created_at"])
    op.add_column("posts", sa.Column("withheld_at", database.UTCDateTime))

    op.drop_index("ix_users_banned", "users")
    op.execute(
        "UPDATE comments SET state = 'banned' WHERE state = 'shown' AND author_id IN "
        "(SELECT id FROM users WHERE banned_at IS NOT NULL)"
    )
    op.execute(
        f"UPDATE posts SET withheld_at = published_at, published_at = '{NEVER}' "
        f"WHERE published_at < '{NEVER}' AND author_id IN "
        "(SELECT id FROM users WHERE banned_at IS NOT NULL)"
    )
    op.execute("UPDATE users SET banned_at = CURRENT_TIMESTAMP WHERE username LIKE 'deleted-%'")
    op.drop_table("metadata")
    op.create_table(
        "attempts",
        sa.Column("key", sa.String, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("ends_at", database.UTCDateTime, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_attempts"),
    )
    op.create_index("ix_attempts_ends_at", "attempts", ["ends_at"])
    op.create_table(
        "refusals",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("username", sa.String, nullable=False),
        sa.Column("text", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_refusals"),
    )
    op.create_index("ix_refusals_created_at", "refusals", ["created_at"])
    restore_triggers()


def restore_triggers():
    """Make the search of the first migration, and what keeps it."""
    for table in ("search", "search_rows"):
        op.execute(f"DROP TABLE IF EXISTS {table}")
    first, dialect = step("0001"), op.get_bind().dialect.name
    for statement in first.SEARCH[dialect] + first.TRIGGERS[dialect]:
        op.get_bind().exec_driver_sql(statement)
    if is_sqlite():
        step("0003").make("1 2 3 4 5 6 7 8")
    else:
        op.execute("UPDATE posts SET title = title")
