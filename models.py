"""The blog's tables, the rules of who may do what, and the queries by their names."""

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from blinker import Signal
from flask_login import AnonymousUserMixin
from sqlalchemy.dialects.postgresql import JSONB
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
from database import Base, UTCDateTime, advisory_lock, db, now

ID_MAX = 2**31 - 1  # the largest that PostgreSQL's INTEGER holds
USERNAME_MAX = 30  # characters; fits a byline on a phone
DISPLAY_NAME_MAX = 50  # characters
TITLE_MAX = 200  # characters
TAG_MAX = 40  # characters
PAGE_SIZE = 10  # posts in a list
COUNT_MAX = 1_000  # comments that are counted, more are "1,000+"; and that are on a page
TAG_COUNT_MAX = 300  # posts that are counted for a tag; more are "300+"
COMMENT_EDIT_MINUTES = 15  # to mend a slip, not to rewrite what others answered
SLUGS_TAKEN = {"edit", "delete", "comments"}  # pages of a post, at the place of its slug
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)  # when a draft is published
KEY_MAX = (NEVER - EPOCH) // timedelta(microseconds=1)
Place = tuple[datetime, int]  # in a list of posts: when a post is published, and its id
PICTURE = r"/pictures/([0-9a-f]+-\d+x\d+\.webp)"  # in a text; the group is its name
ROLES = ("owner", "author", "member")  # who does everything, posts, or comments alone
LINKS_MAX = 2  # in a comment that need not wait where others do
# Conditions of partial indexes, which a query has to repeat word by word.
WAITING = sa.text("state = 'waiting'")
BANNED = sa.text("banned_at IS NOT NULL")
PICTURED = sa.text("body LIKE '%/pictures/%'")
GONE = "deleted-"  # begins the username of an account that is no more
KEEP_IDS = {"sqlite_autoincrement": True}  # ids are never used again: old links stay dead
# Sent inside of a transaction: with `posts` that were saved, whose ids are known; and before posts
# are deleted, with `ids`, their `Select`. So other modules keep rows of their own about posts.
posts_saved, posts_deleted = Signal(), Signal()


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
    display_name: Mapped[str] = mapped_column(sa.String(DISPLAY_NAME_MAX), default="")
    about: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    banned_at: Mapped[datetime | None]
    invitation: Mapped[str | None]  # the mark of the one that made the account
    __table_args__ = (
        sa.Index("uq_users_username", sa.func.lower(username), unique=True),
        sa.Index("uq_users_invitation", "invitation", unique=True),
        sa.Index("ix_users_banned", "id", sqlite_where=BANNED, postgresql_where=BANNED),
        sa.CheckConstraint(f"role IN {ROLES}", name="role"),
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
    def name(self) -> str:
        """What they are called."""
        return self.display_name or self.username

    @property
    def full_name(self) -> str:
        """What they are called, and who they are: others may call themselves the same."""
        return f"{self.display_name} ({self.username})" if self.display_name else self.username

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
    def create(
        cls,
        username: str,
        password_hash: str,
        may: str,
        signup: str = "open",
        invitation: str | None = None,
    ) -> "User":
        """Add an account, the first as owner; `may` is "post" or "comment".

        IntegrityError when the name is taken; PermissionError when the invitation is used, when
        sign-up is not "open" and there is no invitation to it, or "closed".
        """
        advisory_lock(db.session.connection())  # of two who are first, one is the owner
        is_used = invitation and db.session.scalar(
            sa.select(cls.id).filter_by(invitation=invitation)
        )
        if is_used or not cls.may_be_created(signup, invitation):
            raise PermissionError
        is_first = not db.session.scalar(sa.select(sa.exists(sa.select(cls.id))))
        role = "owner" if is_first else {"post": "author", "comment": "member"}[may]
        user = cls(username=username, password_hash=password_hash, role=role, invitation=invitation)
        db.session.add(user)
        db.session.flush()
        return user

    @classmethod
    def may_be_created(cls, signup: str, invitation: str | None) -> bool:
        """Whether an account may be made; the first always, others as BLOG_SIGNUP says."""
        if signup == "open" or (signup == "invite" and invitation):
            return True
        return not db.session.scalar(sa.select(sa.exists(sa.select(cls.id))))

    @classmethod
    def banned(cls) -> sa.Select[int]:
        """`Select` of the ids of banned Users, whose texts nobody is shown."""
        return sa.select(cls.id).where(cls.banned_at.is_not(None))

    @property
    def is_deleted(self) -> bool:
        """Whether only a row without a name is left of the account."""
        return self.username.startswith(GONE)

    def change_password(self, password_hash: str, keep: str = "") -> None:
        """Set another password, and end every session but the one to keep, by its id."""
        self.password_hash = password_hash
        self.end_sessions(keep)

    def end_sessions(self, keep: str = "") -> None:
        """Log out every browser but the one whose session is to be kept."""
        is_other = (Session.user_id == self.id) & (Session.id != keep)
        db.session.execute(sa.delete(Session).where(is_other))

    def leave(self, with_comments: bool) -> None:
        """Delete the account with its posts.

        A row without a name stays for comments that stay, and for an invitation, to be used once.
        """
        self.remove_texts(with_comments)
        if with_comments and not self.invitation:
            db.session.delete(self)
            return
        waiting = (Comment.author_id == self.id) & (Comment.state == "waiting")
        db.session.execute(sa.delete(Comment).where(waiting))
        self.end_sessions()
        self.username = f"{GONE}{self.id}-{secrets.token_hex(3)}"
        self.display_name = "deleted account"
        self.role, self.password_hash, self.banned_at = "member", "!", None

    def is_only_owner(self) -> bool:
        """Whether nobody else owns the site; until the commit, no owner can cease to be one."""
        owners = sa.select(User).where(User.role == "owner").order_by(User.id).with_for_update()
        others = [user for user in db.session.scalars(owners) if user.id != self.id]
        return self.is_owner and not any(user.banned_at is None for user in others)

    def ban(self) -> None:
        """Put the account out, which hides what it wrote; `banned_at = None` brings it back."""
        self.banned_at = now()
        self.end_sessions()

    def remove_texts(self, with_comments: bool = True) -> None:
        """Delete all that the user wrote or drew, or leave the comments on others' posts."""
        self.display_name = self.about = ""
        Post.delete(Post.author_id == self.id)
        db.session.execute(sa.delete(Picture).where(Picture.author_id == self.id))
        if with_comments:
            db.session.execute(sa.delete(Comment).where(Comment.author_id == self.id))


class Session(Base):
    """One browser in which somebody is logged in. Deleting the row logs it out."""

    __tablename__ = "sessions"
    id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id, ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    ends_at: Mapped[datetime] = mapped_column(index=True)

    @classmethod
    def user_of(cls, session_id: str) -> sa.Select[User, datetime]:
        """`Select` of the User of a session, unless banned, and of the time when it ends."""
        query = sa.select(User, cls.ends_at).join(cls).where(cls.id == session_id)
        return query.where(User.banned_at.is_(None))


class Comment(Base):
    """An answer to a post."""

    __tablename__ = "comments"
    id: Mapped[int] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(sa.ForeignKey("posts.id", ondelete="CASCADE"))
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id))
    body: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(default="shown", server_default="shown")  # or "waiting"
    submission: Mapped[str | None]  # a digest of the form's random value and of the text
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
    post: Mapped["Post"] = relationship()
    __table_args__ = (
        # With the author, the index alone counts the comments whose author is not banned.
        sa.Index("ix_comments_post_id", "post_id", "state", "id", "author_id"),
        sa.Index("ix_comments_waiting", "id", sqlite_where=WAITING, postgresql_where=WAITING),
        sa.Index("ix_comments_author_id", "author_id", "created_at"),
        sa.Index("uq_comments_submission", "author_id", "submission", unique=True),
        KEEP_IDS,
    )

    @classmethod
    def visible_to(cls, user: User | Visitor) -> sa.Select["Comment"]:
        """`Select` of the Comments that the user may read.

        Those that wait are there for who wrote them and for who may approve them.
        """
        theirs = (cls.author_id == user.id) | (Post.author_id == user.id) | user.is_owner
        query = sa.select(cls).join(cls.post).where(Post.may_be_read_by(user))
        query = query.where(cls.author_id.not_in(User.banned()))
        return query.where((cls.state == "shown") | theirs)

    @classmethod
    def under(cls, post: "Post", user: User | Visitor) -> sa.Select["Comment"]:
        """`Select` of the post's Comments that the user may read, newest first."""
        return cls.visible_to(user).where(cls.post_id == post.id).order_by(cls.id.desc())

    @classmethod
    def waiting(cls) -> sa.Select["Comment"]:
        """`Select` of the Comments that wait for approval, oldest first, with their Posts."""
        query = sa.select(cls).where(WAITING, cls.author_id.not_in(User.banned()))
        return query.order_by(cls.id).options(joinedload(cls.post))

    @staticmethod
    def submission_of(value: str, body: str) -> str:
        """What is stored of a form's random value: a cached page gives two tabs the same one.

        So the same text is one comment, and another text is another comment.
        """
        return hashlib.blake2b(f"{value}\0{body}".encode(), digest_size=16).hexdigest()

    @property
    def version(self) -> str:
        """A mark that changes with its text."""
        return self.changed_at.isoformat()

    def is_as_in(self, form: Mapping[str, str]) -> bool:
        """Whether its text is the one that was read with that form, if the form tells."""
        return form.get("version") in (None, self.version)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for approval."""
        return self.state == "waiting"

    @staticmethod
    def must_wait(body: str, post: "Post", author: User, moderation: str) -> bool:
        """Whether a comment is shown only once approved; `moderation` is as in the settings."""
        if moderation == "none" or post.is_editable_by(author):
            return False
        if rendering.markdown(body, small=True).count("<a ") > LINKS_MAX:
            return True
        own = Comment.author_id == author.id
        shown = sa.select(Comment.id).join(Comment.post).where(own, Comment.state == "shown")
        by_others = shown.where(Post.author_id != author.id).limit(1)
        return moderation == "all" or not db.session.scalar(by_others)

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return self.updated_at or self.created_at

    def is_editable_by(self, user: User | Visitor) -> bool:
        """Its author edits a comment while it is fresh."""
        # By the minutes of the clock, for each of which pages are kept.
        age = now().timestamp() // 60 - self.created_at.timestamp() // 60
        return user.id == self.author_id and age < COMMENT_EDIT_MINUTES

    def is_deletable_by(self, user: User | Visitor) -> bool:
        """Its author deletes a comment, and whoever may change the post."""
        is_own = user.id == self.author_id
        return user.is_authenticated and (is_own or self.post.is_editable_by(user))


class Tag(Base):
    """A word under which a post is found. `Post.save` writes these rows from `Post.tags`."""

    __tablename__ = "tags"
    name: Mapped[str] = mapped_column(sa.String(TAG_MAX), primary_key=True)
    published_at: Mapped[datetime] = mapped_column(primary_key=True)
    post_id: Mapped[int] = mapped_column(
        sa.ForeignKey("posts.id", ondelete="CASCADE"), primary_key=True, index=True
    )

    @classmethod
    def place(cls) -> sa.Tuple:
        """What the lists of a tag's posts are sorted by."""
        return sa.tuple_(cls.published_at, cls.post_id)

    @classmethod
    def replace(cls, posts: Collection["Post"]) -> None:
        """Write the tags of these posts instead of those that were theirs."""
        ids = [post.id for post in posts]
        db.session.execute(sa.delete(cls).where(cls.post_id.in_(ids)))
        rows = [
            {"name": name, "published_at": post.published_at, "post_id": post.id}
            for post in posts
            for name in post.tags
        ]
        if rows:
            db.session.execute(sa.insert(cls), rows)

    @classmethod
    def counted(cls) -> sa.Select[str, int]:
        """`Select` of every tag of Posts, and of the number of those that all may read.

        It is 0 where authors are banned, and counts up to TAG_COUNT_MAX + 1.
        Goes from name to name through the index, and so reads no tag's rows but those it counts.
        """
        published = sa.select(sa.func.min(cls.name).label("name")).where(cls.published_at <= now())
        names = published.cte("names", recursive=True)
        following = published.where(cls.name > names.c.name).scalar_subquery()
        names = names.union_all(sa.select(following).where(names.c.name.is_not(None)))
        posts = sa.select(cls.post_id).where(cls.name == names.c.name, cls.published_at <= now())
        posts = posts.where(cls.post_id.not_in(Post.by_banned()))
        some = posts.correlate(names).limit(TAG_COUNT_MAX + 1).subquery()
        count = sa.select(sa.func.count()).select_from(some).scalar_subquery()
        return sa.select(names.c.name, count).where(names.c.name.is_not(None)).order_by("name")


class Post(Base):
    """What an author writes, in Markdown: published, scheduled, or a draft."""

    __tablename__ = "posts"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id))
    title: Mapped[str] = mapped_column(sa.String(TITLE_MAX))
    body: Mapped[str]
    tags: Mapped[list[str]] = mapped_column(sa.JSON().with_variant(JSONB, "postgresql"), default=[])
    created_at: Mapped[datetime] = mapped_column(default=now)
    published_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime | None]
    edited_at: Mapped[datetime | None]  # when the form to edit it was last saved
    comments_closed: Mapped[bool] = mapped_column(default=False, server_default=sa.false())
    submission: Mapped[str | None]  # the random value of the form that made it
    author: Mapped[User] = relationship(lazy="joined", innerjoin=True)
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
        sa.Index("ix_posts_pictures", "id", sqlite_where=PICTURED, postgresql_where=PICTURED),
        sa.Index("uq_posts_submission", "author_id", "submission", unique=True),
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
        state = f"{self.title}\0{self.body}\0{self.tags}\0{self.published_at}{self.comments_closed}"
        return hashlib.blake2b(state.encode(), digest_size=8).hexdigest()

    @property
    def changed_at(self) -> datetime:
        """When its text was written or last changed."""
        return max(self.updated_at or self.published_at, self.published_at)

    @property
    def is_draft(self) -> bool:
        """Whether it waits for its author, not for a time."""
        return self.published_at == NEVER

    @hybrid_property
    def is_published(self) -> bool:
        """Whether all may read it: the one rule of visibility, in Python and in SQL."""
        return self.published_at <= now() and not self.author.banned_at

    @is_published.inplace.expression
    @classmethod
    def _is_published(cls) -> sa.ColumnElement[bool]:
        is_due = cls.published_at <= sa.bindparam("until", callable_=now)
        return is_due & cls.author_id.not_in(User.banned())

    @property
    def is_scheduled(self) -> bool:
        """Whether it waits for a time."""
        return now() < self.published_at < NEVER

    @classmethod
    def by_banned(cls) -> sa.Select[int]:
        """`Select` of the ids of the Posts by banned authors, for tables that know no authors."""
        return sa.select(cls.id).where(cls.author_id.in_(User.banned()))

    @classmethod
    @cache
    def published(cls) -> sa.Select["Post"]:
        """`Select` of the Posts that all may read, newest first, each with its comments' number."""
        query = sa.select(cls).where(cls.is_published).options(undefer(cls.comment_count))
        return query.order_by(*newest_first(cls.place()))

    @classmethod
    def tagged(cls, tag: str) -> sa.Select["Post"]:
        """`Select` of the published Posts with that tag, newest first, as their tags' rows lie."""
        query = cls.published().join(Tag, Tag.post_id == cls.id).where(Tag.name == tag)
        return query.order_by(None).order_by(*newest_first(Tag.place()))

    @classmethod
    @cache
    def titles(cls) -> sa.Select["Post"]:
        """`Select` of the published Posts, newest first, for many: without texts and authors."""
        columns = load_only(cls.title, cls.published_at, cls.updated_at)
        query = sa.select(cls).where(cls.is_published).options(columns, lazyload(cls.author))
        return query.order_by(*newest_first(cls.place()))

    @classmethod
    @cache
    def place(cls) -> sa.Tuple:
        """What lists are sorted by."""
        return sa.tuple_(cls.published_at, cls.id)

    @classmethod
    def next_due(cls) -> sa.Select[datetime]:
        """`Select` of the time at which the next scheduled Post is published."""
        due = sa.select(sa.func.min(cls.published_at)).where(cls.published_at > now())
        return due.where(cls.author_id.not_in(User.banned()))

    @classmethod
    def unpublished_by(cls, user: User) -> sa.Select["Post"]:
        """`Select` of the user's drafts and scheduled Posts, newest first."""
        query = sa.select(cls).where(cls.published_at > now(), cls.author_id == user.id)
        return query.order_by(*newest_first(cls.place()))

    @classmethod
    def visible_to(cls, user: User | Visitor) -> sa.Select["Post"]:
        """`Select` of the Posts that the user may read: published and own ones, the owner all."""
        return sa.select(cls).where(cls.may_be_read_by(user))

    @classmethod
    def may_be_read_by(cls, user: User | Visitor) -> sa.ColumnElement[bool]:
        """The condition of `visible_to`."""
        return cls.is_published | (cls.author_id == user.id) | user.is_owner

    @classmethod
    @cache
    def beside(cls) -> sa.Select["Post"]:
        """`Select` of the published Posts next to the place of the parameters `at` and `id`."""
        place = cls.place()
        here = sa.tuple_(sa.bindparam("at", type_=UTCDateTime), sa.bindparam("id"))
        newer = sa.select(cls.id).where(place > here, cls.is_published).order_by(*place.clauses)
        older = sa.select(cls.id).where(place < here, cls.is_published)
        older = older.order_by(*newest_first(place))
        ids = (query.limit(1).scalar_subquery() for query in (newer, older))
        return cls.titles().where(cls.id.in_(ids))

    def neighbours(self) -> dict[str, "Post"]:
        """The published posts before and after this one, as "older" and "newer"."""
        here = (self.published_at, self.id)
        posts = db.session.scalars(Post.beside(), {"at": here[0], "id": here[1]})
        return {"newer" if (post.published_at, post.id) > here else "older": post for post in posts}

    def is_editable_by(self, user: User | Visitor) -> bool:
        """Its author and the owner edit and delete a post."""
        return user.id == self.author_id or user.is_owner

    @classmethod
    def submitted(cls, author_id: int, submission: str) -> sa.Select["Post"]:
        """`Select` of the author's Post that the form of that random value made."""
        return sa.select(cls).where(cls.author_id == author_id, cls.submission == submission)

    @classmethod
    def save(cls, *posts: "Post") -> None:
        """Write new or changed Posts, and the rows that are made from them."""
        db.session.add_all(posts)
        db.session.flush()
        Tag.replace(posts)
        posts_saved.send(None, posts=posts)

    @classmethod
    def delete(cls, found: sa.ColumnElement[bool]) -> None:
        """Delete the Posts of that condition, with all that belongs to them."""
        posts_deleted.send(None, ids=sa.select(cls.id).where(found))
        db.session.execute(sa.delete(cls).where(found))


class Picture(Base):
    """A picture in WebP. Its name is made of its author and contents, and of its size in pixels."""

    __tablename__ = "pictures"
    name: Mapped[str] = mapped_column(primary_key=True)  # <hash>-<width>x<height>.webp
    author_id: Mapped[int] = mapped_column(sa.ForeignKey(User.id), index=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    webp: Mapped[bytes] = mapped_column(deferred=True)

    @classmethod
    def of(cls, author_id: int, webp: bytes, size: tuple[int, int]) -> "Picture":
        """The author's picture of that size in pixels, with its name; not yet saved."""
        salt = author_id.to_bytes(8, "big")
        digest = hashlib.blake2b(webp, digest_size=16, salt=salt).hexdigest()
        name = f"{digest}-{size[0]}x{size[1]}.webp"
        return cls(name=name, author_id=author_id, webp=webp)

    @classmethod
    def unused_by(cls, user: User) -> Sequence["Picture"]:
        """The user's pictures that no post shows, oldest first."""
        texts = db.session.scalars(sa.select(Post.body).where(PICTURED))
        used = {name for text in texts for name in re.findall(PICTURE, text)}
        own = sa.select(cls).where(cls.author_id == user.id).order_by(cls.created_at)
        return [picture for picture in db.session.scalars(own) if picture.name not in used]


class Metadata(Base):
    """What the blog notes about itself, such as the version of the search index."""

    __tablename__ = "metadata"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Page(NamedTuple):
    """Posts, newest first, and the keys from which its neighbours go on; None where none is."""

    posts: Sequence[Post]
    newer: str | None
    older: str | None


def id_of(text: Any) -> int:
    """The id that a text says; ValueError for what is none, or none that every database holds."""
    return range(1, ID_MAX + 1).index(int(str(text))) + 1


def newest_first(place: sa.Tuple) -> list[sa.UnaryExpression[Any]]:
    """The order of lists."""
    return [column.desc() for column in place.clauses]


def place_at(key: str) -> Place:
    """The place that `Post.key` was made from; LookupError for what is no key."""
    match = re.fullmatch(r"([0-9]{1,18})-([0-9]{1,10})", key)
    if not match or int(match[1]) > KEY_MAX or int(match[2]) > ID_MAX:
        raise LookupError(key)
    return EPOCH + timedelta(microseconds=int(match[1])), int(match[2])


def page_of(
    posts: sa.Select[Post],
    before: Place | None,
    after: Place | None,
    place: sa.Tuple,
    size: int = PAGE_SIZE,
) -> Page:
    """The `size` posts next older than `before` or newer than `after`, else the newest."""
    bounds = {}
    if before:
        posts = posts.where(place < before)
        bounds["until"] = min(before[0], now())  # of two bounds, SQLite would start at the first
    if after:
        posts = posts.where(place > after).order_by(None).order_by(*place.clauses)
    found = db.session.scalars(_limited(posts, size + 1), bounds).all()
    shown = found[:size][:: -1 if after else 1]
    is_more = len(found) > size
    newer = shown[0].key if shown and (is_more if after else before) else None
    older = shown[-1].key if shown and (is_more or after) else None
    return Page(shown, newer, older)


@lru_cache(maxsize=8)
def _limited(posts: sa.Select[Post], most: int) -> sa.Select[Post]:
    """The first of them; built once for a query that is built once."""
    return posts.limit(most)
