"""The fixture that every test gets does what it says: what goes unseen fails the test."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent / "conftest.py"

CAUGHT = {
    "a logged error": """
        from twisted.logger import Logger
        def test_it() -> None:
            Logger().error("trouble")
    """,
    "a logged failure": """
        from twisted.logger import Logger
        from twisted.python.failure import Failure
        def test_it() -> None:
            Logger().failure("trouble", Failure(ValueError("hidden")))
    """,
    "a Deferred that failed unseen": """
        from twisted.internet.defer import fail
        def test_it() -> None:
            fail(ValueError("hidden"))
    """,
    "a timer left behind": """
        from twisted.internet import reactor
        def test_it() -> None:
            reactor.callLater(60, print)
    """,
}


@pytest.mark.parametrize("what", CAUGHT)
def test_what_goes_unseen_fails_the_test(tmp_path: Path, what: str) -> None:
    shutil.copy(CONFTEST, tmp_path)
    lines = CAUGHT[what].strip("\n").splitlines()
    (tmp_path / "test_it.py").write_text("\n".join(line.removeprefix(" " * 8) for line in lines))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout
    assert "1 passed, 1 error" in ended.stdout
