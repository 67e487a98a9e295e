# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.

"""What is installed asks no system for what another does not have."""

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
FOLDERS = sorted({line.split(" = ")[1] for line in SETUP["options"]["package_dir"].split("\n") if " = " in line})
# Modules of the standard library that Windows has not.
ABSENT = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
# Calls that it has not, each with the file that asks first whether they are there.
CALLS = {
    "os": {
        *("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "killpg", "mkfifo", "mknod", "nice", "openpty"),
        *(
            "pathconf",
            "setsid",
            "sched_getaffinity",
            "chown",
            "fchmod",
            "statvfs",
            "sysconf",
            "uname",
            "wait",
            "waitpid",
        ),
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "alarm", "setitimer", "pause"},
    "mmap": {"MAP_PRIVATE", "MAP_ANONYMOUS", "MAP_SHARED", "PROT_READ"},
    "socket": {"AF_UNIX"},
}
ASKED_FIRST = {
    # In a try that ends with what nearly every system takes.
    ("common/files.py", "os.pathconf"),
    # Behind hasattr.
    ("bundles/fastsam3d/scripts/inference/label_map.py", "mmap.MAP_PRIVATE"),
    ("bundles/fastsam3d/scripts/inference/label_map.py", "mmap.MAP_ANONYMOUS"),
}


def files() -> list[Path]:
    found = {f for folder in FOLDERS for f in (ROOT / folder).rglob("*.py") if "common" not in f.parts[-4:-1]}
    return sorted(found | set((ROOT / "common").rglob("*.py")))


def asked_for(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports, or takes of a module, that Windows does not have: the line, and what."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] in ABSENT)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if node.module.split(".")[0] in ABSENT:
                yield node.lineno, node.module
            yield from (
                (node.lineno, f"{node.module}.{a.name}") for a in node.names if a.name in CALLS.get(node.module, ())
            )
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in CALLS.get(node.value.id, ()):
                yield node.lineno, f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.Constant) and node.value in ("fork", "/dev/null", "/tmp", "/dev/shm"):
            yield node.lineno, repr(node.value)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_that_windows_has_not(path):
    name = path.relative_to(ROOT).as_posix()
    met = [f"line {line}: {what}" for line, what in asked_for(path) if (name, what) not in ASKED_FIRST]
    assert not met, f"{name}: {met}"


def test_the_check_finds_what_it_is_for(tmp_path):
    text = "import fcntl\nimport os\nfrom signal import SIGKILL\nos.fork()\nget_context('fork')\nimport os.path\n"
    (tmp_path / "x.py").write_text(text)
    assert [what for _, what in sorted(asked_for(tmp_path / "x.py"))] == [
        "fcntl",
        "signal.SIGKILL",
        "os.fork",
        "'fork'",
    ]


def test_names_of_files_differ_by_more_than_case():
    names = [f.relative_to(ROOT).as_posix().lower() for f in files()]
    assert len(set(names)) == len(names)
