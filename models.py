"""The blog's tables, the rules of who may do what, and the queries by their names."""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from flask_login import AnonymousUserMixin
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    Mapped,
    column_property,
    joinedload,
    lazyload,
    load_only,
    mapped_column,
    relationship,
    undefer,
)

import rendering
from database import Base, db, now, wait_in_line

ID_MAX = 2**31 - 1  # the largest that PostgreSQL's INTEGER holds
USERNAME_MAX = 30  # characters; fits a byline on a phone
TITLE_MAX = 200  # characters
TAG_MAX = 40  # characters
PAGE_SIZE = 10  # posts in a list
COMMENT_EDIT_MINUTES = 15  # to mend a slip, not to rewrite what others answered
SLUGS_TAKEN = {"edit", "delete", "comments"}  # pages of a post, at the place of its slug
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # when a draft is published
KEY_MAX = (NEVER - EPOCH) // timedelta(microseconds=1)
KEEP_IDS = {"sqlite_autoincrement": True}  # ids are never used again: old links stay dead


class Visitor(AnonymousUserMixin):
    """Somebody who is not logged in; answers what templates and rules ask of a User."""

    id = None
    is_owner = may_post = False


class User(Base):
    """An account. The first is the site's owner; others are authors, or members who comment."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(sa.String(USERNAME_MAX))
    password_hash: Mapped[str]
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    __table_args__ = (
        sa.Index("uq_users_username", sa.func.lower(username), unique=True),
        sa.CheckConstraint("role IN ('owner', 'author', 'member')", name="role"),
        KEEP_IDS,
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

    def get_id(self) -> str:
        """What Flask-Login keeps in the cookie: the session's id, which the server can end."""
        return self.session_id

    @classmethod
    def named(cls, username: str) -> sa.Select["User"]:
        """`Select` of the one User of that name, in any case."""
        return sa.select(cls).where(sa.func.lower(cls.username) == username.lower())

    @classmethod
    def create(cls, username: str, password_hash: str, may: str) -> "User":
        """Add an account, the first as owner; `may` is "post" or "comment".

        IntegrityError when the name is taken.
        """
        wait_in_line(db.session.connection())
        is_first = not db.session.scalar(sa.select(sa.exists(sa.select(cls.id))))
        role = "owner" if is_first else {"post": "author", "comment": "member"}[may]
        user = cls(username=username, password_hash=password_hash, role=role)
        db.session.add(user)
        db.session.flush()
        return user


class Session(Base):
    """One browser in which somebody is logged in. Deleting the row logs it out."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    ends_at: Mapped[datetime] = mapped_column(index=True)

    @classmethod
    def user_of(cls, session_id: str) -> sa.Select[User]:
        """`Select` of the User of a session that has not ended."""
        return sa.select(User).join(cls).where(cls.id == session_id, cls.ends_at > now())


class Comment(Base):
    """An answer to a post."""

    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("posts.id", ondelete="CASCADE"))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id), index=True)
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime | None]
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    post: Mapped["Post"] = relationship()
    __table_args__ = (sa.Index("ix_comments_post_id", "post_id", "id"), KEEP_IDS)

    @classmethod
    def visible_to(cls, user: User | Visitor) -> sa.Select["Comment"]:
        """`Select` of the Comments whose Posts the user may read, with these."""
        post_ids = Post.visible_to(user).with_only_columns(Post.id)
        return sa.select(cls).where(cls.post_id.in_(post_ids)).options(joinedload(cls.post))

    @classmethod
    def under(cls, post: "Post") -> sa.Select["Comment"]:
        """`Select` of the post's Comments, oldest first."""
        return sa.select(cls).where(cls.post_id == post.id).order_by(cls.id)

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return self.updated_at or self.created_at

    def is_editable_by(self, user: User | Visitor) -> bool:
        """Its author edits a comment while it is fresh."""
        is_fresh = now() - self.created_at < timedelta(minutes=COMMENT_EDIT_MINUTES)
        return user.id == self.author_id and is_fresh

    def is_deletable_by(self, user: User | Visitor) -> bool:
        """Its author deletes a comment, and whoever may change the post."""
        return user.id == self.author_id or self.post.is_editable_by(user)


class Tag(Base):
    """A word under which a post is found."""

    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(sa.String(TAG_MAX), primary_key=True)
    post_id: Mapped[int] = mapped_column(
        sa.ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True, index=True
    )

    @classmethod
    def counted(cls) -> sa.Select[str, int]:
        """`Select` of every tag of published Posts, and of their number."""
        query = sa.select(cls.name, sa.func.count()).join(Post, Post.id == cls.post_id)
        return query.where(Post.is_published).group_by(cls.name).order_by(cls.name)


class Post(Base):
    """What an author writes, in Markdown: published, scheduled, or a draft."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id))
    title: Mapped[str] = mapped_column(sa.String(TITLE_MAX))
    body: Mapped[str]
    published_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime | None]
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    tags: Mapped[list[Tag]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by=Tag.name
    )
    comment_count: Mapped[int] = column_property(
        sa.select(sa.func.count(Comment.id)).where(Comment.post_id == id).scalar_subquery(),
        deferred=True,
    )
    # The orders of the lists, so that no list is sorted when it is read.
    __table_args__ = (
        sa.Index("ix_posts_published_at", "published_at", "id"),
        sa.Index("ix_posts_author_id", "author_id", "published_at", "id"),
        KEEP_IDS,
    )

    @property
    def slug(self) -> str:
        """The title in the URL."""
        slug = rendering.slug(self.title) or "post"
        return f"{slug}-post" if slug in SLUGS_TAKEN else slug

    @property
    def key(self) -> str:
        """The post's place in every list: `<microseconds since 1970>-<id>`."""
        return f"{(self.published_at - EPOCH) // timedelta(microseconds=1)}-{self.id}"

    @property
    def version(self) -> str:
        """A mark that changes with whatever a form can change."""
        state = f"{self.title}\0{self.body}\0{self.tag_names}\0{self.published_at}"
        return hashlib.blake2b(state.encode(), digest_size=8).hexdigest()

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return self.updated_at or self.published_at

    @property
    def is_draft(self) -> bool:
        """Whether it waits for its author, not for a time."""
        return self.published_at == NEVER

    @hybrid_property
    def is_published(self) -> bool:
        """Whether all may read it: the one rule of visibility, in Python and in SQL."""
        return self.published_at <= now()

    @classmethod
    def published(cls) -> sa.Select["Post"]:
        """`Select` of the Posts that all may read, with the number of their comments."""
        return sa.select(cls).where(cls.is_published).options(undefer(cls.comment_count))

    @property
    def tag_names(self) -> list[str]:
        """Its tags, in the order of the alphabet."""
        return [tag.name for tag in self.tags]

    @tag_names.setter
    def tag_names(self, names: list[str]) -> None:
        kept = {tag.name: tag for tag in self.tags}
        self.tags = [kept.get(name) or Tag(name=name) for name in names]

    @classmethod
    def tagged(cls, tag: str) -> sa.Select["Post"]:
        """`Select` of the published Posts with that tag."""
        ids = sa.select(Tag.post_id).where(Tag.name == tag)
        return cls.published().where(cls.id.in_(ids))

    @classmethod
    def titles(cls) -> sa.Select["Post"]:
        """`Select` of the published Posts with what a list of many needs: no texts, no authors."""
        columns = load_only(cls.title, cls.published_at, cls.updated_at)
        query = sa.select(cls).where(cls.is_published)
        return query.options(columns, lazyload(cls.author))

    @classmethod
    def newest_first(cls) -> list[sa.UnaryExpression[Any]]:
        """The order of lists."""
        return [cls.published_at.desc(), cls.id.desc()]

    @classmethod
    def unpublished_by(cls, user: User) -> sa.Select["Post"]:
        """`Select` of the user's drafts and scheduled Posts."""
        return sa.select(cls).where(~cls.is_published, cls.author_id == user.id)

    @classmethod
    def visible_to(cls, user: User | Visitor) -> sa.Select["Post"]:
        """`Select` of the Posts that the user may read: published and own ones, the owner all."""
        if user.is_owner:
            return sa.select(cls)
        return sa.select(cls).where(cls.is_published | (cls.author_id == user.id))

    def neighbours(self) -> dict[str, "Post"]:
        """The published posts before and after this one, as "older" and "newer"."""
        place, here = sa.tuple_(Post.published_at, Post.id), (self.published_at, self.id)
        newer = sa.select(Post.id).where(place > here, Post.is_published)
        older = sa.select(Post.id).where(place < here, Post.is_published)
        ids = (
            newer.order_by(*place.clauses).limit(1).scalar_subquery(),
            older.order_by(*self.newest_first()).limit(1).scalar_subquery(),
        )
        posts = db.session.scalars(sa.select(Post).where(Post.id.in_(ids)))
        return {"newer" if (post.published_at, post.id) > here else "older": post for post in posts}

    def is_editable_by(self, user: User | Visitor) -> bool:
        """Its author and the owner edit and delete a post."""
        return user.id == self.author_id or user.is_owner


class Page(NamedTuple):
    """Posts, newest first, and the keys from which its neighbours go on; None where none is."""

    posts: Sequence[Post]
    newer: str | None
    older: str | None


def place_at(key: str) -> tuple[datetime, int]:
    """The time and the id that `Post.key` was made from; LookupError for what is no key."""
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,10})", key)
    if not match or int(match[1]) > KEY_MAX or int(match[2]) > ID_MAX:
        raise LookupError(key)
    return EPOCH + timedelta(microseconds=int(match[1])), int(match[2])


def page_of(posts: sa.Select[Post], before: str | None, after: str | None) -> Page:
    """The PAGE_SIZE posts next older than the key `before` or newer than `after`, else the newest.

    LookupError for what is no key, and where a key leads to no older post.
    """
    place = sa.tuple_(Post.published_at, Post.id)
    ascending = after is not None
    for key, is_there in ((before, place.__lt__), (after, place.__gt__)):
        if key is not None:
            posts = posts.where(is_there(place_at(key)))
    order = place.clauses if ascending else Post.newest_first()
    found = db.session.scalars(posts.order_by(*order).limit(PAGE_SIZE + 1)).all()
    shown = found[:PAGE_SIZE][:: -1 if ascending else 1]
    if before and not shown:
        raise LookupError(before)
    is_more = len(found) > PAGE_SIZE
    newer = shown[0].key if shown and (is_more if ascending else before) else None
    older = shown[-1].key if shown and (is_more or ascending) else None
    return Page(shown, newer, older)
