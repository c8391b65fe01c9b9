"""How fast commands start: ours in turns with Python that only imports click, the wrapper with docker itself."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from ds01.cli.main import COMMANDS
from ds01.host.names import THIN
from lab.process import ROOT

RUNS = 5
WRAPPER = ROOT / "roles/gateway/templates/usr/local/bin/docker.j2"
"""Nothing is filled in there."""
DOCKER = "/usr/bin/docker"
"""What the wrapper ends in."""
WRAPPED_RUNS = 40
BASELINE = "import click"
# A script of pip runs isolated, as its first line says on a host.
ENTRY = "import sys; from ds01.cli.entry import main; sys.argv = sys.argv[1:]; main()"


def took(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return (time.perf_counter() - begun) * 1000


def python(code: str, *arguments: str) -> float:
    return took(sys.executable, "-I", "-c", code, *arguments)


def test_start_of_each_command():
    names = [*THIN, *(f"ds01 {name}" for name in COMMANDS)]
    times: dict[str, list[float]] = {name: [] for name in ["python and click", *names]}
    for _ in range(RUNS):
        times["python and click"].append(python(BASELINE))
        for name in names:
            times[name].append(python(ENTRY, *name.split(), "--help"))
    base = statistics.median(times["python and click"])
    print(f"\n{'':<20}{'median ms':>10}{'worst ms':>10}{'ratio':>7}")
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:<20}{median:>10.0f}{max(found):>10.0f}{median / base:>7.2f}")


def test_what_the_wrapper_of_docker_adds():
    times: dict[str, list[float]] = {"docker": [], "by the wrapper": []}
    for _ in range(WRAPPED_RUNS):
        times["docker"].append(took(DOCKER, "--version"))
        times["by the wrapper"].append(took("/bin/sh", str(WRAPPER), "--version"))
    base = statistics.median(times["docker"])
    print(f"\n{'':<20}{'median ms':>10}{'worst ms':>10}{'ratio':>7}{'added ms':>10}   target")
    for name, found in times.items():
        median = statistics.median(found)
        target = "20 ms added" if name != "docker" else ""
        print(f"{name:<20}{median:>10.1f}{max(found):>10.1f}{median / base:>7.2f}{median - base:>10.1f}   {target}")
