"""The URL of the database: reads it, and says in a sentence which part of it is wrong."""

import re

import sqlalchemy as sa

from core.config import SettingError

SETTING = "BLOG_DATABASE_URL (or DATABASE_URL)"
POSTGRESQL = ("postgresql", "postgresql+psycopg")
SQLITE = ("sqlite", "sqlite+pysqlite")
EXAMPLES = "The blog takes postgresql://user:password@host/name, or sqlite:////folder/blog.db"
# Patterns of what PostgreSQL's client says, and the part that it is about. The first match counts.
FAULTS = {
    "resolve|translate host": "host",
    "port number": "port",
    "[Cc]ertificate|SSL|ssl": "TLS",
    "connection option|query parameter|invalid|argument|unexpected keyword": "options after the ?",
    "authentication|password|role": "user or password",
    "database .* does not exist": "name of the database",
    "": "host or port",
}


def parse(text: str) -> sa.URL:
    """The URL, of SQLite or PostgreSQL; else SettingError, without the password."""
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in ("postgres", *POSTGRESQL, *SQLITE):
        fault = f"begins with {scheme}://" if separator else "has no scheme"
        raise SettingError(f"{SETTING} {fault}. {EXAMPLES}.")
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise SettingError(f"{SETTING} has a wrong port or is no URL. {EXAMPLES}.") from error
    if scheme in SQLITE:
        if url.host or url.database in (None, "", ":memory:"):
            raise SettingError(f"{SETTING} names no file. {EXAMPLES}.")
        return url
    # A slash after the @ makes the rest of the password the name of the database.
    if "@" in f"{url.host}{url.database}":
        raise SettingError(f"{SETTING} has an @ in its password, which is written as %40 there.")
    return url.set(drivername="postgresql") if scheme == "postgres" else url


def explain(error: Exception) -> SettingError:
    """Which part of the URL of PostgreSQL is wrong, by the error of the first connection."""
    reason = str(getattr(error, "orig", error)).partition("\n")[0]
    part = next(part for pattern, part in FAULTS.items() if re.search(pattern, reason))
    return SettingError(f"{SETTING} leads to no database. Look at its {part}: {reason}.")
