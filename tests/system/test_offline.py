"""Evaluation needs no network: all ten suites, asked, graded and reported where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WAY_IN = ["unshare", "--user", "--map-root-user", "--net"]
CODE = """
import socket, sys
import cabochon
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert error.errno in (101, 113), error  # there is no way to anywhere
else:
    sys.exit("there is a network")
with cabochon.load(sys.argv[1]) as model:
    report = model.evaluate("enterprise", n=2, max_tokens=4, out=sys.argv[2], progress=False)
report.report(sys.argv[2] + "/report.html")
print(len(report.manifest["suites"]), report.complete)
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*WAY_IN, "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no network namespace can be made here")
def test_all_suites_run_in_an_empty_network_namespace(demo_folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [*WAY_IN, sys.executable, "-c", CODE, str(demo_folder), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["10", "True"]
