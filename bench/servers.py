"""The servers of the benchmark, on one core: Granian, PostgreSQL, and Flask's tutorial."""

import importlib.metadata
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
SERVERS, CLIENT = 0, -1  # the first core that this process may use, and the last
# As `flask serve` starts it.
GRANIAN = "--interface wsgi --factory --blocking-threads 16 --backpressure 128".split()
START_MAX = 20  # seconds


def core(place):
    """The number of the core for SERVERS or CLIENT."""
    return sorted(os.sched_getaffinity(0))[place]


@contextmanager
def running(command, answers, seconds, log, stop=signal.SIGTERM, **options):
    """A process on the servers' core, once it answers; ended at the latest after these seconds."""
    bounds = f"taskset -c {core(SERVERS)} timeout --kill-after 5 {seconds}".split()
    with log.open("w") as output:
        process = subprocess.Popen([*bounds, *command], stdout=output, stderr=output, **options)
    try:
        deadline = time.monotonic() + START_MAX
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{command[0]} does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.send_signal(stop)  # `timeout` passes it on
        process.wait(30)


@contextmanager
def granian(app, log, seconds, folder=ROOT, **settings):
    """The process and the port of Granian, serving the app that is imported from the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def answers():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    program = Path(sys.executable).with_name("granian")
    command = [program, *GRANIAN, "--host", "127.0.0.1", "--port", str(port), app]
    environment = os.environ | settings
    with running(command, answers, seconds, log, cwd=folder, env=environment) as process:
        yield process, port


@contextmanager
def postgresql(log, seconds):
    """The URL of a PostgreSQL database of our own, or "" where there are no programs for it."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = programs[-1] if programs else Path(shutil.which("initdb") or "").parent
    if not (found / "initdb").is_file():
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="pg", dir="/var/tmp") as folder:
        options = {"cwd": folder}
        if os.geteuid() == 0:  # as which PostgreSQL refuses to run
            shutil.chown(folder, "postgres")
            options |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        words = f"-D {folder}/data --auth=trust --username=postgres --encoding=UTF8".split()
        output = subprocess.DEVNULL
        subprocess.run([found / "initdb", *words], check=True, stdout=output, timeout=60, **options)
        words = f"-D {folder}/data -k {folder} -c listen_addresses=".split()

        def answers():
            ready = [found / "pg_isready", "-q", "-h", folder]
            return subprocess.run(ready, timeout=10).returncode == 0

        # Interrupted, it closes the connections that are left.
        interrupt = {"stop": signal.SIGINT}
        with running([found / "postgres", *words], answers, seconds, log, **interrupt, **options):
            yield f"postgresql://postgres@/postgres?host={folder}"


def tutorial(folder, posts):
    """The folder of the blog that Flask's tutorial builds, with these posts; None offline.

    It comes with Flask's source, in the version that is installed.
    """
    flask = f"flask=={importlib.metadata.version('flask')}"
    pip = [sys.executable, *"-m pip download --quiet --no-deps --no-binary flask".split()]
    command = ["timeout", "120", *pip, "--dest", folder, flask]
    if subprocess.run(command, stderr=subprocess.DEVNULL).returncode:
        return None
    shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder)
    blog = next(folder.glob("*/examples/tutorial"))
    (blog / "instance").mkdir()
    with closing(sqlite3.connect(blog / "instance" / "flaskr.sqlite")) as database:
        database.executescript((blog / "flaskr" / "schema.sql").read_text())
        database.execute("INSERT INTO user (username, password) VALUES ('person0', '')")
        insert = "INSERT INTO post (author_id, title, body) VALUES (1, ?, ?)"
        database.executemany(insert, posts)
        database.commit()
    return blog


def memory(process):
    """The resident memory of the process and its children in MiB."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == process.pid:  # `timeout` leads a group of its own
                pages += int((folder / "statm").read_text().split()[1])
        except (ProcessLookupError, FileNotFoundError):
            continue  # it has ended meanwhile
    return pages * os.sysconf("SC_PAGESIZE") / 2**20
