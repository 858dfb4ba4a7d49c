"""The first tables, and the triggers that keep tags and search after every change of a post.

Alembic's batch mode makes a table anew on SQLite and forgets its triggers: whoever changes `posts`
so runs `TRIGGERS` again.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from core import database

revision = "0001"
down_revision = None

# Full text in FTS5. A row's number is its place in the order of lists, so that the newest matches
# are read first: the second of its publication, and its id in the lower 30 bits.
SECOND = "CAST(strftime('%s', substr({0}.published_at, 1, 19)) AS INTEGER)"
PLACE = f"(min({SECOND}, 8589934591) << 30 | {{0}}.id)"
TEXTS = "{0}.title, {0}.body, (SELECT group_concat(value, ' ') FROM json_each({0}.tags))"
ADD = f"""
INSERT INTO search (rowid, title, body, tags) SELECT {PLACE}, {TEXTS};
INSERT INTO tags SELECT value, new.published_at, new.id FROM json_each(new.tags);
""".replace("{0}", "new")
REMOVE = f"""
INSERT INTO search (search, rowid, title, body, tags) SELECT 'delete', {PLACE}, {TEXTS};
DELETE FROM tags WHERE post_id = old.id;
""".replace("{0}", "old")
SEARCH = {
    "sqlite": [
        "CREATE VIRTUAL TABLE search USING fts5 (title, body, tags, content = '', "
        "prefix = '1 2 3', tokenize = 'unicode61 remove_diacritics 2')"
    ],
    # Nothing but letters and digits, small and without accents, whatever the server's locale.
    "postgresql": [
        """
        CREATE FUNCTION fold(text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
            SELECT regexp_replace(
                lower(regexp_replace(normalize(regexp_replace(
                    regexp_replace($1, '[\\u0300-\\u036f]', '', 'g') COLLATE "und-x-icu",
                    '[^[:alnum:]]+', ' ', 'g'
                ), NFKD), '[\\u0300-\\u036f]', '', 'g') COLLATE "und-x-icu"),
                '[^[:alnum:]]+', ' ', 'g')
        $$
        """,
        """
        CREATE TABLE search (
            post_id integer PRIMARY KEY REFERENCES posts ON DELETE CASCADE,
            published_at timestamptz NOT NULL,
            words tsvector NOT NULL
        )
        """,
        "CREATE INDEX ix_search_published_at ON search (published_at, post_id)",
        "CREATE INDEX ix_search_words ON search USING gin (words)",
    ],
}
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER post_added AFTER INSERT ON posts BEGIN {ADD} END",
        f"CREATE TRIGGER post_removed BEFORE DELETE ON posts BEGIN {REMOVE} END",
        "CREATE TRIGGER post_changed AFTER UPDATE OF title, body, tags, published_at ON posts "
        f"BEGIN {REMOVE} {ADD} END",
    ],
    "postgresql": [
        """
        CREATE FUNCTION post_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            DELETE FROM search WHERE post_id = new.id;
            DELETE FROM tags WHERE post_id = new.id;
            INSERT INTO search SELECT new.id, new.published_at, to_tsvector('simple',
                fold(new.title || ' ' || new.body || ' ' || new.tags::text));
            INSERT INTO tags
                SELECT value, new.published_at, new.id FROM jsonb_array_elements_text(new.tags);
            RETURN NULL;
        END
        $$
        """,
        "CREATE TRIGGER post_changed AFTER INSERT OR UPDATE OF title, body, tags, published_at "
        "ON posts FOR EACH ROW EXECUTE FUNCTION post_changed()",
    ],
}


def upgrade():
    op.create_table(
        "users",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("username", sa.String(30), nullable=False),
        sa.Column("password_hash", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("display_name", sa.String(50), nullable=False),
        sa.Column("about", sa.String, nullable=False),
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
        sa.Column("tags", sa.JSON().with_variant(JSONB, "postgresql"), nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.Column("published_at", database.UTCDateTime, nullable=False),
        sa.Column("updated_at", database.UTCDateTime),
        sa.Column(
            "has_pictures", sa.Boolean, sa.Computed("body LIKE '%/pictures/%'", persisted=True)
        ),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_posts_author_id"),
        sa.PrimaryKeyConstraint("id", name="pk_posts"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_posts_published_at", "posts", ["published_at", "id"])
    op.create_index("ix_posts_author_id", "posts", ["author_id", "published_at", "id"])
    op.create_index("ix_posts_created_at", "posts", ["author_id", "created_at"])
    op.create_index("ix_posts_has_pictures", "posts", ["has_pictures"])

    op.create_table(
        "tags",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("published_at", database.UTCDateTime, nullable=False),
        sa.Column("post_id", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["post_id"], ["posts.id"], name="fk_tags_post_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", "published_at", "post_id", name="pk_tags"),
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
    op.create_index("ix_comments_author_id", "comments", ["author_id", "created_at"])

    op.create_table(
        "pictures",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("author_id", sa.Integer, nullable=False),
        sa.Column("created_at", database.UTCDateTime, nullable=False),
        sa.Column("webp", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name="fk_pictures_author_id"),
        sa.PrimaryKeyConstraint("name", name="pk_pictures"),
    )
    op.create_index("ix_pictures_author_id", "pictures", ["author_id"])

    dialect = op.get_bind().dialect.name
    for statement in SEARCH[dialect] + TRIGGERS[dialect]:
        op.get_bind().exec_driver_sql(statement)


def downgrade():
    op.execute("DROP TABLE search")
    for table in ("pictures", "comments", "tags", "posts", "sessions", "users"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION post_changed, fold")
