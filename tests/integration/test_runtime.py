"""The runtime on a real host: installed offline, under a strict umask, interrupted, upgraded and taken back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ds01.host import bundle
from ds01.host.runtime import Target
from lab.process import ROOT
from lab.testhost import LabHost

CODE = "/root/ds01-runtime-test"
DRIVER = f"""
import json, os, sys
from pathlib import Path
sys.path.insert(0, "{CODE}")
from ds01.host.runtime import Runtime, target
request = json.load(sys.stdin)
os.umask(0o077)
steps = 0
def hook(event, args):
    global steps
    if event in {{"os.rename", "subprocess.Popen", "os.symlink"}}:
        steps += 1
        if steps == request.get("kill_at"):
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
runtime, name = Runtime(), request.get("name")
if request["do"] == "remove":
    runtime.remove()
elif name and not runtime.in_use(name):
    if not runtime.complete(name):
        runtime.install(name, Path("{CODE}", request["bundle"]))
    runtime.use(name)
    runtime.prune(name)
needs = target()
print(json.dumps({{"installed": runtime.installed(), "current": runtime.current(), "python": needs.python,
                  "machine": needs.machine, "steps": steps}}))
"""


class RuntimeHost:
    """A host with two bundles to install from: the source as it is, and a changed one."""

    def __init__(self, host: LabHost, changed: Path) -> None:
        self.host = host
        facts = self.do("look")
        needs = Target(facts["python"], facts["machine"])
        self.versions = []
        for number, root in enumerate((ROOT, changed)):
            made = bundle.make(root, ROOT / ".cache" / "runtime", needs)
            host.write(f"{CODE}/{number}.zip", made.read_bytes())
            self.versions.append(bundle.name(root))
            if root != ROOT:
                made.unlink()

    def do(self, what: str, **request: Any) -> dict[str, Any]:
        """Run the code on the host; a killed run answers nothing."""
        stdin = json.dumps({"do": what, **request}).encode()
        answer = self.host.run("python3", f"{CODE}/driver.py", stdin=stdin, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else {"status": answer.returncode}

    def install(self, number: int, **request: Any) -> dict[str, Any]:
        """Install one of the two."""
        return self.do("install", name=self.versions[number], bundle=f"{number}.zip", **request)

    def works(self) -> bool:
        """Whether an ordinary person can run it."""
        return "version" in self.host.sh("runuser -u nobody -- /usr/local/bin/ds01 --version", check=False)


def copy_of_the_source(target: Path) -> None:
    """Copy what a version is made of."""
    shutil.copytree(ROOT / "src", target / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "requirements", target / "requirements")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target / name)


@pytest.fixture
def runtime(lab_host: LabHost, tmp_path: Path) -> Iterator[RuntimeHost]:
    copy_of_the_source(tmp_path)
    with (tmp_path / "src/ds01/__init__.py").open("a") as stream:
        stream.write("\nCHANGED = True\n")
    lab_host.sh(f"mkdir -p {CODE}")
    lab_host.copy("src/ds01", f"{CODE}/")
    lab_host.write(f"{CODE}/driver.py", DRIVER)
    found = RuntimeHost(lab_host, tmp_path)
    yield found
    found.do("remove")
    lab_host.sh(f"rm -rf {CODE}; test ! -e /opt/ds01; test ! -L /usr/local/bin/ds01")
    assert lab_host.sh("find /usr/local/share -lname '/opt/ds01/*'") == ""


def test_everybody_can_use_it_and_only_root_change_it(runtime: RuntimeHost):
    assert runtime.install(0)["current"] == runtime.versions[0]
    assert runtime.works()
    assert runtime.host.sh("find /opt/ds01 ! -type l -perm /022").strip() == ""
    assert runtime.host.sh("find /opt/ds01 ! -type l ! -perm -o=r").strip() == ""
    assert runtime.host.sh("find /opt/ds01 ! -user root").strip() == ""
    assert runtime.install(0)["steps"] == 0
    for name in ("man/man1/container-deploy.1", "bash-completion/completions/container", "zsh/site-functions/_ds01"):
        assert runtime.host.sh(f"runuser -u nobody -- head -c 1 /usr/local/share/{name}")
    # A person's own modules, as conda and the like set them up, are not ours.
    runtime.host.sh("mkdir -p /tmp/theirs; echo 'raise SystemExit(7)' > /tmp/theirs/click.py")
    runtime.host.sh("PYTHONPATH=/tmp/theirs PYTHONHOME=/nowhere /usr/local/bin/ds01 --version")


def test_a_changed_source_is_a_new_directory_and_the_way_back_is_open(runtime: RuntimeHost):
    old, new = runtime.versions
    runtime.install(0)
    assert runtime.install(1)["current"] == new
    assert runtime.works()
    back = runtime.do("install", name=old)
    assert back["current"] == old
    assert sorted(back["installed"]) == sorted(runtime.versions)
    assert runtime.works()


@pytest.mark.parametrize("step", [2, 6, 8], ids=["while pip runs", "before the mark", "between link and rename"])
def test_killed_the_old_one_stays_in_use_and_the_next_run_completes(runtime: RuntimeHost, step: int):
    runtime.install(0)
    assert runtime.install(1, kill_at=step)["status"] == 137
    assert runtime.works()
    assert runtime.host.sh("readlink /opt/ds01/current").strip() == runtime.versions[0]
    assert runtime.install(1)["current"] == runtime.versions[1]
    assert runtime.works()


def test_the_source_tree_stays_clean(tmp_path: Path):
    tree = tmp_path / "tree"
    copy_of_the_source(tree)
    before = sorted(tree.rglob("*"))
    made = bundle.make(tree, ROOT / ".cache" / "runtime", Target("3.13", "x86_64"))
    assert made.exists()
    assert sorted(tree.rglob("*")) == before
