"""Bans, invitations, comments that wait, limits, and what was refused."""

import sqlalchemy as sa
from alembic import op

from core import database

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("users", sa.Column("banned_at", database.UTCDateTime))
    op.add_column("users", sa.Column("invitation", sa.String))
    op.create_index("uq_users_invitation", "users", ["invitation"], unique=True)
    op.add_column("posts", sa.Column("withheld_at", database.UTCDateTime))
    op.add_column(
        "posts",
        sa.Column("comments_closed", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column("comments", sa.Column("state", sa.String, nullable=False, server_default="shown"))
    op.drop_index("ix_comments_post_id", "comments")
    op.create_index("ix_comments_post_id", "comments", ["post_id", "state", "id"])
    waiting = sa.text("state = 'waiting'")
    op.create_index(
        "ix_comments_waiting", "comments", ["id"], sqlite_where=waiting, postgresql_where=waiting
    )
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


def downgrade():
    op.drop_table("refusals")
    op.drop_table("attempts")
    op.drop_index("ix_comments_waiting", "comments")
    op.drop_index("ix_comments_post_id", "comments")
    op.create_index("ix_comments_post_id", "comments", ["post_id", "id"])
    op.drop_column("comments", "state")
    op.drop_column("posts", "comments_closed")
    op.drop_column("posts", "withheld_at")
    op.drop_index("uq_users_invitation", "users")
    op.drop_column("users", "invitation")
    op.drop_column("users", "banned_at")
