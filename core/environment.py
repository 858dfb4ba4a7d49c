"""Make `.venv` for the Makefile: `python3 -m core.environment requirements.txt`.

An environment works only in the folder and with the Python that it was made for, and only if its
installation was finished. Any other is made anew. This module runs before anything is installed,
and any Python 3 has to read it.
"""

import fcntl
import importlib.util
import os
import subprocess
import sys
import venv
from contextlib import suppress
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".venv"
PYTHON = FOLDER / "bin" / "python"
MARK = FOLDER / "made-for"  # written last: what has none is not whole
CONSTRAINTS = ROOT / "constraints.txt"
# By these, pip installs elsewhere, or nothing.
ELSEWHERE = {"PIP_DRY_RUN", "PIP_PREFIX", "PIP_ROOT", "PIP_TARGET"}
NETWORK = (
    "Is this machine online? "
    "If it needs a proxy, name it and run make again: export HTTPS_PROXY=http://host:port"
)
TAKE_OVER = "If root began here, make the folder yours: sudo chown -R $(id -un) ."


def main() -> None:
    """Make the environment with the files that are named; what fails is said in a sentence."""
    if sys.version_info < (3, 11):
        sys.exit("The blog needs Python 3.11 or newer: make PYTHON=python3.13 run")
    if not importlib.util.find_spec("ensurepip"):
        sys.exit("Python's module ensurepip is missing: apt-get install python3-venv")
    try:
        make(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(explain(error.output or ""))
    except PermissionError as error:
        sys.exit(f"You may not write {error.filename}. {TAKE_OVER}")
    except OSError as error:
        sys.exit(f".venv could not be made: {error.strerror}.")
    except ValueError:  # venv refuses what no PATH can have
        sys.exit(f"{ROOT} has a colon in its name: rename that folder.")
    except KeyboardInterrupt:
        sys.exit("Stopped. The next make begins anew.")


def make(files: list[str]) -> None:
    """Make the environment with these files of requirements, unless it is there."""
    place, versions = purpose(files)
    with CONSTRAINTS.open() as lock:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start at once, one makes it
        if is_for(place + versions):
            return
        sys.stdout.write("Installing packages into .venv: this takes a minute.\n")
        sys.stdout.flush()
        if not is_for(place):
            venv.create(FOLDER, clear=True, symlinks=True)
            run(lock, "ensurepip", "--default-pip")
        MARK.unlink(missing_ok=True)
        options = [word for file in files for word in ("-r", file)]
        run(lock, "pip", "install", "--quiet", *options, "-c", CONSTRAINTS.name)
        MARK.write_text(place + versions, "utf-8", "surrogateescape")


def purpose(files: list[str]) -> tuple[str, str]:
    """What an environment is for: the folder and the Python, and the versions of packages."""
    version = ".".join(map(str, sys.version_info[:2]))
    texts = [(ROOT / file).read_text("utf-8") for file in [CONSTRAINTS.name, *files]]
    return "\n".join([str(ROOT), sys.base_prefix, version, ""]), "".join(texts)


def is_for(expected: str) -> bool:
    """Whether a whole environment was made for that; the one of the tests is for the blog, too."""
    made = MARK.read_text("utf-8", "surrogateescape") if MARK.is_file() else ""
    # A link whose end is gone is no file.
    return PYTHON.is_file() and made.startswith(expected)


def run(lock: IO[str], module: str, *words: str) -> None:
    """Run a module in the environment, else CalledProcessError.

    It sees no package of PYTHONPATH, which would be left out of the environment. And it holds the
    lock, too: should this process alone be killed, the module runs on.
    """
    subprocess.run(
        [str(PYTHON), "-I", "-m", module, *words],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if name not in ELSEWHERE}
        | {"PIP_USER": "0"},
        check=True,
        pass_fds=[lock.fileno()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def explain(output: str) -> str:
    """A sentence for what pip says, and what to do where there is no network."""
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:] or ["nothing"]
    reason = f"The packages could not be installed. pip says: {errors[0].removeprefix('ERROR: ')}"
    return reason if "[Errno " in reason else f"{reason} {NETWORK}"


if __name__ == "__main__":
    main()
