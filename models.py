"""The blog's tables, the rules of who may do what, and the queries by their names."""

import hashlib
from datetime import datetime, timedelta
from functools import cache

import sqlalchemy as sa
from flask_login import AnonymousUserMixin
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    lazyload,
    load_only,
    mapped_column,
    relationship,
    undefer,
)

from core import plugins, rendering
from core.database import Base, advisory_lock, db, now
from core.pagination import NEVER, Cursor, newest_first

USERNAME_MAX = 30  # characters; fits a byline on a phone
DISPLAY_NAME_MAX = 50  # characters
TITLE_MAX = 200  # characters; imported ones may be longer
PAGE_SIZE = 10  # posts in a list
OPENING_MAX = 500  # characters of a text without a title, of which its first words are taken
COUNT_MAX = 1_000  # comments that are counted, more are "1,000+"; and that are on a page
COMMENT_EDIT_MINUTES = 15  # to mend a slip, not to rewrite what others answered
RESERVED_SLUGS = {"edit", "delete", "comments"}  # pages of a post, at the same path as its slug
TEXT_FIELDS = ("title", "body")  # columns of a post that `PostForm` fills in, with the same names
ROLES = ("owner", "author", "member")  # who does everything, posts, or comments alone
DELETED_PREFIX = "deleted-"  # of the username of an account that is no more
DELETED_NAME = "deleted account"  # by which readers are told of it
# Conditions of partial indexes. A query needs the same text, or the index is not used.
IS_PENDING = sa.text("state = 'pending'")
IS_BANNED = sa.text("banned_at IS NOT NULL")
# Parameters of queries: the user who reads.
USER_ID, IS_OWNER = (
    sa.bindparam("user_id", type_=sa.Integer),
    sa.bindparam("is_owner", type_=sa.Boolean),
)
NEW_IDS = {"sqlite_autoincrement": True}  # ids are never used again: old links stay dead


class AnonymousUser(AnonymousUserMixin):
    """A visitor who is not logged in, with what templates and rules need of a User."""

    id = None
    is_owner = may_post = False


class User(Base):
    """An account. The first is the site's owner; others are authors, or members who comment."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(USERNAME_MAX))
    password_hash: Mapped[str]
    role: Mapped[str]
    display_name: Mapped[str] = mapped_column(sa.String(DISPLAY_NAME_MAX), default="")
    about: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    banned_at: Mapped[datetime | None]
    invitation: Mapped[str | None]  # the id of the one that made the account
    __table_args__ = (
        sa.Index("uq_users_username", sa.func.lower(username), unique=True),
        sa.Index("uq_users_invitation", "invitation", unique=True),
        sa.Index("ix_users_banned", "id", sqlite_where=IS_BANNED, postgresql_where=IS_BANNED),
        sa.CheckConstraint(f"role IN {ROLES}", name="role"),
        NEW_IDS,
    )
    # Not columns, but what Flask-Login asks; the session is the one that loaded this user.
    is_authenticated = is_active = True
    is_anonymous = False
    session_id = ""

    @property
    def is_owner(self) -> bool:
        """Whether the site is theirs."""
        return self.role == "owner"

    @property
    def may_post(self) -> bool:
        """Whether they may post, not only comment."""
        return self.role != "member"

    @property
    def name(self) -> str:
        """The display name, or else the username, but of who has left neither."""
        return DELETED_NAME if self.is_deleted else self.display_name or self.username

    @property
    def full_name(self) -> str:
        """Both names: others may have the same display name."""
        has_both = self.display_name and not self.is_deleted
        return f"{self.display_name} ({self.username})" if has_both else self.name

    @property
    def is_deleted(self) -> bool:
        """Whether the account was deleted, and only its row is left."""
        return self.username.startswith(DELETED_PREFIX)

    def get_id(self) -> str:
        """What Flask-Login keeps in the cookie: the session's id, which the server can end."""
        return self.session_id

    @classmethod
    def named(cls, username: str) -> sa.Select["User"]:
        """`Select` of the one User of that name, in any case."""
        return sa.select(cls).where(sa.func.lower(cls.username) == username.lower())

    @classmethod
    def banned(cls) -> sa.Select[int]:
        """`Select` of the ids of banned Users, whose texts nobody is shown."""
        return sa.select(cls.id).where(cls.banned_at.is_not(None))

    @classmethod
    def any_exists(cls) -> bool:
        """Whether there is an account."""
        return bool(db.session.scalar(sa.select(sa.exists(sa.select(cls.id)))))

    @classmethod
    def may_sign_up(cls, signup: str, invitation: str | None) -> bool:
        """Whether an account may be made; the first always, others as BLOG_SIGNUP says."""
        is_open = signup == "open" or (signup == "invite" and bool(invitation))
        return is_open or not cls.any_exists()

    @classmethod
    def create(
        cls,
        username: str,
        password_hash: str,
        may: str,
        signup: str = "open",
        invitation: str | None = None,
    ) -> "User":
        """Add an account, the first as owner; `may` is "post" or "comment".

        IntegrityError when the name is taken; PermissionError when the invitation is used, or
        `may_sign_up` is False.
        """
        advisory_lock(db.session.connection())  # of two who are first, one is the owner
        used = sa.select(cls.id).where(cls.invitation == invitation)
        if invitation and db.session.scalar(used):
            raise PermissionError
        if not cls.may_sign_up(signup, invitation):
            raise PermissionError
        role = "author" if may == "post" else "member"
        if not cls.any_exists():
            role = "owner"
        user = cls(username=username, password_hash=password_hash, role=role, invitation=invitation)
        db.session.add(user)
        db.session.flush()
        return user

    @classmethod
    def with_password(cls, user_id: int, password_hash: str) -> sa.Select["User"]:
        """`Select` of that User, locked, if not banned and the hash is unchanged."""
        is_same = (cls.id == user_id) & (cls.password_hash == password_hash)
        return sa.select(cls).where(is_same, cls.banned_at.is_(None)).with_for_update()

    def is_only_owner(self) -> bool:
        """Whether nobody else owns the site; locks the owners' rows until the commit."""
        owners = sa.select(User).where(User.role == "owner").order_by(User.id).with_for_update()
        others = [user for user in db.session.scalars(owners) if user.id != self.id]
        return self.is_owner and not any(user.banned_at is None for user in others)

    def change_password(self, password_hash: str, keep: str = "") -> None:
        """Set another password, and end every session but the one with the id `keep`."""
        self.password_hash = password_hash
        self.end_sessions(keep)

    def end_sessions(self, keep: str = "") -> None:
        """Log out every browser but the one whose session has the id `keep`."""
        is_other = (Session.user_id == self.id) & (Session.id != keep)
        db.session.execute(sa.delete(Session).where(is_other))

    def ban(self) -> None:
        """Log the user out and hide what they wrote; `banned_at = None` lifts the ban."""
        self.banned_at = now()
        self.end_sessions()

    def delete_texts(self, with_comments: bool = True) -> None:
        """Delete all that the user wrote, or leave the comments on others' posts."""
        self.display_name = self.about = ""
        # The table is there also where extras/pictures.py is off.
        pictures = sa.table("pictures", sa.column("author_id"))
        db.session.execute(sa.delete(pictures).where(pictures.c.author_id == self.id))
        plugins.user_texts_deleted.send(plugins.current_blog(), user=self)
        Post.delete_where(Post.author_id == self.id)
        if with_comments:
            db.session.execute(sa.delete(Comment).where(Comment.author_id == self.id))


class Session(Base):
    """One browser in which a user is logged in. Deleting the row logs it out."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    ends_at: Mapped[datetime] = mapped_column(index=True)

    # Statements that do not differ are built once: that takes longer than running them.
    @classmethod
    @cache
    def with_user(cls) -> sa.Select[User, datetime]:
        """`Select` of the User of the session `:session_id`, unless banned, and of its end."""
        query = sa.select(User, cls.ends_at).join(cls)
        return query.where(cls.id == sa.bindparam("session_id"), User.banned_at.is_(None))


class Comment(Base):
    """A comment on a post: shown, or pending until it is approved."""

    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("posts.id", ondelete="CASCADE"))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id))
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(default="shown", server_default="shown")  # or "pending"
    submission: Mapped[str | None]  # a digest of the form's random value and of the text
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    post: Mapped["Post"] = relationship()
    __table_args__ = (
        # With the author, the index alone counts the comments whose author is not banned.
        sa.Index("ix_comments_post_id", "post_id", "state", "id", "author_id"),
        sa.Index("ix_comments_pending", "id", sqlite_where=IS_PENDING, postgresql_where=IS_PENDING),
        sa.Index("ix_comments_author_id", "author_id", "created_at"),
        sa.Index("uq_comments_submission", "author_id", "submission", unique=True),
        NEW_IDS,
    )

    @classmethod
    @cache
    def visible(cls) -> sa.Select["Comment"]:
        """`Select` of the Comment `:id`, if the user `:user_id`, who `:is_owner`, may read it.

        Pending ones are visible to who wrote them, to the author of the post, and to owners.
        """
        is_own = (cls.author_id == USER_ID) | (Post.author_id == USER_ID) | IS_OWNER
        query = sa.select(cls).join(cls.post).where(cls.id == sa.bindparam("id"))
        query = query.where(Post.is_visible(), cls.author_id.not_in(User.banned()))
        return query.where((cls.state == "shown") | is_own)

    @classmethod
    @cache
    def for_post(cls, with_pending: bool = False) -> sa.Select["Comment"]:
        """`Select` of the Comments on the post `:post_id`, before the id `:before`, newest first.

        COUNT_MAX + 1 of them, of which the pending ones only those of `:user_id`, or all.
        """
        query = sa.select(cls).where(cls.post_id == sa.bindparam("post_id"))
        query = query.where(cls.id < sa.bindparam("before"), cls.author_id.not_in(User.banned()))
        if not with_pending:
            query = query.where((cls.state == "shown") | (cls.author_id == USER_ID))
        return query.order_by(cls.id.desc()).limit(COUNT_MAX + 1)

    @staticmethod
    def submission_digest(submission: str, body: str) -> str:
        """What is stored of a form's random value: a cached page gives two tabs the same one.

        So the same text is one comment, and another text is another comment.
        """
        return hashlib.blake2b(f"{submission}\0{body}".encode(), digest_size=16).hexdigest()

    @property
    def is_pending(self) -> bool:
        """Whether it is to be approved before others read it."""
        return self.state == "pending"

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return self.updated_at or self.created_at

    @property
    def version(self) -> str:
        """A text that changes with the comment's."""
        return self.changed_at.isoformat()

    @property
    def editable_until(self) -> datetime:
        """Until when its author may edit it."""
        return self.created_at + timedelta(minutes=COMMENT_EDIT_MINUTES)

    def is_editable_by(self, user: User | AnonymousUser) -> bool:
        """Its author edits a comment while it is fresh."""
        return user.id == self.author_id and now() < self.editable_until

    def is_deletable_by(self, user: User | AnonymousUser) -> bool:
        """Its author deletes a comment, and whoever may change the post."""
        is_own = user.id == self.author_id
        return user.is_authenticated and (is_own or self.post.is_editable_by(user))

    def save(self) -> None:
        """Write a comment that a form has made or changed; extras may still change or refuse it."""
        is_new = self.id is None
        db.session.add(self)
        db.session.flush()
        plugins.comment_saved.send(plugins.current_blog(), comment=self, is_new=is_new)


class Post(Base):
    """What an author writes, in Markdown: published, scheduled, or a draft."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id))
    # It may be empty. PostgreSQL would refuse what is longer than its column.
    title: Mapped[str] = mapped_column(sa.String(TITLE_MAX).with_variant(sa.Text, "postgresql"))
    body: Mapped[str] = mapped_column()
    # Of extras/tags.py; here, since feeds, search and exports have them.
    tags: Mapped[list[str]] = mapped_column(
        sa.JSON().with_variant(JSONB, "postgresql"), default=list
    )
    created_at: Mapped[datetime] = mapped_column(default=now)
    published_at: Mapped[datetime] = mapped_column(default=now)  # NEVER for a draft
    publish_at: Mapped[datetime | None]  # the date of a draft
    # Of a draft that an import made of a page, such as “About”.
    is_page: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    updated_at: Mapped[datetime | None]
    edited_at: Mapped[datetime | None]  # when the form to edit it was last saved
    comments_closed: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    submission: Mapped[str | None]  # the random value of the form that made it
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    # Where there is no title: what it is made of, also in queries that leave out the text.
    opening: Mapped[str] = column_property(
        sa.case((title == "", sa.func.substr(body, 1, OPENING_MAX)), else_="")
    )
    comment_count: Mapped[int] = column_property(
        sa.select(sa.func.count())
        .select_from(
            sa.select(Comment.id)
            .where(Comment.post_id == id, Comment.state == "shown")
            .where(Comment.author_id.not_in(User.banned()))
            .correlate_except(Comment)
            .limit(COUNT_MAX + 1)
            .subquery()
        )
        .scalar_subquery(),
        deferred=True,
    )
    # The orders of the lists, so that no list is sorted when it is read.
    __table_args__ = (
        sa.Index("ix_posts_published_at", "published_at", "id"),
        sa.Index("ix_posts_author_id", "author_id", "published_at", "id"),
        sa.Index("uq_posts_submission", "author_id", "submission", unique=True),
        NEW_IDS,
    )

    @property
    def display_title(self) -> str:
        """The title, or else the first words of the text."""
        is_whole = len(self.opening) < OPENING_MAX
        return self.title or rendering.first_words(self.opening, is_whole)

    @property
    def slug(self) -> str:
        """The title in the URL."""
        slug = rendering.slug(self.title) or "post"
        return f"{slug}-post" if slug in RESERVED_SLUGS else slug

    @property
    def cursor(self) -> Cursor:
        """The post's sort key in every list."""
        return Cursor(self.published_at, self.id)

    @property
    def version(self) -> str:
        """A digest of what the form of a post can change, by which edit conflicts are noticed."""
        texts = [str(getattr(self, name)) for name in TEXT_FIELDS]
        times = f"{self.published_at}{self.publish_at or ''}"
        state = [*texts, str(self.tags), f"{times}{self.comments_closed}"]
        return hashlib.blake2b("\0".join(state).encode(), digest_size=8).hexdigest()

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return max(self.updated_at or self.published_at, self.published_at)

    @property
    def is_draft(self) -> bool:
        """Whether it has no time at which it is published."""
        return self.published_at == NEVER

    @property
    def is_scheduled(self) -> bool:
        """Whether it will be published at a time."""
        return now() < self.published_at < NEVER

    @property
    def is_backdated(self) -> bool:
        """Whether it is a draft with a date that is over, such as a post that was unpublished."""
        return bool(self.publish_at and self.publish_at <= now())

    @hybrid_property
    def is_published(self) -> bool:
        """Whether all may read it, in Python and in SQL."""
        return self.published_at <= now() and not self.author.banned_at

    @is_published.inplace.expression
    @classmethod
    def _is_published(cls) -> sa.ColumnElement[bool]:
        # The time at which the query runs, or an earlier one that is passed as `:until`.
        is_due = cls.published_at <= sa.bindparam("until", callable_=now)
        return is_due & cls.author_id.not_in(User.banned())

    @classmethod
    @cache
    def sort_key(cls) -> sa.Tuple:
        """The columns by which lists are sorted."""
        return sa.tuple_(cls.published_at, cls.id)

    @classmethod
    @cache
    def published(cls) -> sa.Select["Post"]:
        """`Select` of the Posts that all may read, newest first, with their `comment_count`."""
        query = sa.select(cls).where(cls.is_published).options(undefer(cls.comment_count))
        return query.order_by(*newest_first(cls.sort_key()))

    @classmethod
    @cache
    def titles(cls) -> sa.Select["Post"]:
        """`Select` of the published Posts, newest first, without texts and authors."""
        columns = load_only(cls.title, cls.opening, cls.published_at, cls.updated_at)
        query = sa.select(cls).where(cls.is_published).options(columns, lazyload(cls.author))
        return query.order_by(*newest_first(cls.sort_key()))

    @classmethod
    def by_banned(cls) -> sa.Select[int]:
        """`Select` of the ids of the Posts by banned authors, for tables that know no authors."""
        return sa.select(cls.id).where(cls.author_id.in_(User.banned()))

    @classmethod
    def unpublished_by(cls, user: User) -> sa.Select["Post"]:
        """`Select` of the user's drafts and scheduled Posts, newest first."""
        query = sa.select(cls).where(cls.published_at > now(), cls.author_id == user.id)
        return query.order_by(*newest_first(cls.sort_key()))

    @classmethod
    @cache
    def visible(cls) -> sa.Select["Post"]:
        """`Select` of the Post `:id`, if the user `:user_id`, who `:is_owner`, may read it."""
        return sa.select(cls).where(cls.id == sa.bindparam("id"), cls.is_visible())

    @classmethod
    def is_visible(cls) -> sa.ColumnElement[bool]:
        """The rule of `visible`: published and own posts, and for owners all."""
        return cls.is_published | (cls.author_id == USER_ID) | IS_OWNER

    def is_editable_by(self, user: User | AnonymousUser) -> bool:
        """Its author and the owner edit and delete a post."""
        return user.id == self.author_id or user.is_owner

    @classmethod
    def save(cls, *posts: "Post") -> None:
        """Write new or changed Posts, and the rows that extras make from them."""
        db.session.add_all(posts)
        db.session.flush()
        plugins.posts_saved.send(plugins.current_blog(), posts=posts)

    @classmethod
    def delete_where(cls, condition: sa.ColumnElement[bool]) -> None:
        """Delete the Posts of that condition, with all that belongs to them."""
        plugins.posts_deleted.send(plugins.current_blog(), ids=sa.select(cls.id).where(condition))
        db.session.execute(sa.delete(cls).where(condition))
