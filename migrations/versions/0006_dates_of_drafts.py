"""A draft keeps its date; posts may be pages to come; titles of imported posts may be longer."""

import sqlalchemy as sa
from alembic import op

from core.database import UTCDateTime

revision = "0006"
down_revision = "0005"

TITLE_MAX = 200  # characters


def upgrade():
    op.add_column("posts", sa.Column("publish_at", UTCDateTime))
    op.add_column(
        "posts", sa.Column("is_page", sa.Boolean, nullable=False, server_default=sa.false())
    )
    # SQLite does not bound texts by the length of their column.
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("posts", "title", type_=sa.Text)


def downgrade():
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column(
            "posts", "title", type_=sa.String(TITLE_MAX), postgresql_using="left(title, 200)"
        )
    op.drop_column("posts", "is_page")
    op.drop_column("posts", "publish_at")
