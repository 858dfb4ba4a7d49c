"""The first tables: users, sessions, posts, tags, comments."""

import sqlalchemy as sa
from alembic import op

import database

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("username", sa.String(30), nullable=False),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.CheckConstraint("role IN ('owner', 'author', 'member')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_users_username", "users", [sa.text("lower(username)")], unique=True)

    op.create_table(
        "sessions",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.Column("ends_at", database.UTCDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_ends_at", "sessions", ["ends_at"])

    op.create_table(
        "posts",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("author_id", sa.Integer, nullable=False),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("published_at", database.UTCDateTime, nullable=False),
        sa.Column("updated_at", database.UTCDateTime),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_posts_author_id"),
        sa.PrimaryKeyConstraint("id", name="pk_posts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_posts_published_at", "posts", ["published_at", "id"])
    op.create_index("ix_posts_author_id", "posts", ["author_id", "published_at", "id"])

    op.create_table(
        "tags",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("post_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_tags_post_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", "post_id", name="pk_tags"),
    )
    op.create_index("ix_tags_post_id", "tags", ["post_id"])

    op.create_table(
        "comments",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("post_id", sa.Integer, nullable=False),
        sa.Column("author_id", sa.Integer, nullable=False),
        sa.Column("body", sa.String, nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.Column("updated_at", database.UTCDateTime),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_comments_post_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_comments_author_id"),
        sa.PrimaryKeyConstraint("id", name="pk_comments"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_comments_post_id", "comments", ["post_id", "id"])
    op.create_index("ix_comments_author_id", "comments", ["author_id"])


def downgrade():
    for table in ("comments", "tags", "posts", "sessions", "users"):
        op.drop_table(table)
