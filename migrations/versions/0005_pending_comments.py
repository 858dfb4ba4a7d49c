"""Comments that were waiting are pending; an account that is deleted takes its pictures along."""

import sqlalchemy as sa
from alembic import op

from core.database import UTCDateTime

revision = "0005"
down_revision = "0004"

PENDING = sa.text("state = 'pending'")
WAITING = sa.text("state = 'waiting'")
FOREIGN_KEY = "fk_pictures_author_id"


def upgrade():
    op.drop_index("ix_comments_waiting", "comments")
    op.execute("UPDATE comments SET state = 'pending' WHERE state = 'waiting'")
    op.create_index(
        "ix_comments_pending", "comments", ["id"], sqlite_where=PENDING, postgresql_where=PENDING
    )
    refer_to_users("CASCADE")


def downgrade():
    refer_to_users(None)
    op.drop_index("ix_comments_pending", "comments")
    op.execute("UPDATE comments SET state = 'waiting' WHERE state = 'pending'")
    op.create_index(
        "ix_comments_waiting", "comments", ["id"], sqlite_where=WAITING, postgresql_where=WAITING
    )


def refer_to_users(ondelete):
    """Replace the foreign key of the pictures; SQLite needs a new table for that."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(FOREIGN_KEY, "pictures")
        op.create_foreign_key(
            FOREIGN_KEY, "pictures", "users", ["author_id"], ["id"], ondelete=ondelete
        )
        return
    op.drop_index("ix_pictures_author_id", "pictures")
    op.rename_table("pictures", "old_pictures")
    op.create_table(
        "pictures",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("author_id", sa.Integer, nullable=False),
        sa.Column("created_at", UTCDateTime, nullable=False),
        sa.Column("webp", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name=FOREIGN_KEY, ondelete=ondelete),
        sa.PrimaryKeyConstraint("name", name="pk_pictures"),
    )
    op.execute("INSERT INTO pictures SELECT name, author_id, created_at, webp FROM old_pictures")
    op.drop_table("old_pictures")
    op.create_index("ix_pictures_author_id", "pictures", ["author_id"])
