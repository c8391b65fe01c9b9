"""The space of containers, volumes and images: measured by the real engine, told, and refused when it is used up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.gateway.gateway_host import CODE, GatewayHost

IMAGE = "ds01-lab/base"
MIB = 1 << 20
FRESH_S = 1.2
"""A request that comes so long after a change of the policy is judged by it."""
ACCOUNT = f"""
import json, sys
sys.path.insert(0, "{CODE}")
from pathlib import Path
from ds01.ledger import Ledger, disk, lifecycle
from ds01.lifecycle.disk import account
from ds01.lifecycle.passes import Place
from ds01.notify import near
ledger, tables = Path("/var/lib/gw-ledger.db"), Path("{CODE}/tables.json")
place = Place(ledger=ledger, engine=Path("/run/docker.sock"), tables=lambda _: json.loads(tables.read_text()))
account(place, dry_run="--dry-run" in sys.argv)
with Ledger(ledger) as opened:
    with opened.read() as view:
        seen = near.look(view, place.tables(place.policy))
    with opened.transaction() as tx:
        near.take(tx, place.tables(place.policy)["notifications"], seen)
    with opened.read() as view:
        uses = [use._asdict() for use in disk.uses(view)]
        told = [one.text for one in lifecycle.notices(view, int(sys.argv[1])) if one.subject == "storage.docker"]
print(json.dumps([uses, told]))
"""
GROW = {
    "create": f"docker create --name more {IMAGE} true",
    "run": f"docker run --rm {IMAGE} true",
    "volume": "docker volume create more",
    "pull": "docker pull docker.io/library/more",
    "build": f"mkdir -p b; echo FROM {IMAGE} >b/Dockerfile; docker build -q b",
    "commit": "docker commit box more",
    "load": "head -c 2k /dev/zero | docker load",
    "import": "head -c 2k /dev/zero | docker import - more",
    "copy": "docker cp /etc/passwd box:/tmp/",
}


@pytest.fixture
def limit(gateway: GatewayHost) -> Iterator[Any]:
    """Sets what everybody's things may take in all."""
    before = gateway.host.sh(f"cat {CODE}/tables.json")

    def to(size: int | None) -> None:
        tables = json.loads(before)
        tables["defaults"]["storage.docker"] = size
        gateway.host.write(f"{CODE}/tables.json", json.dumps(tables))
        time.sleep(FRESH_S)

    yield to
    to(None)
    gateway.host.write(f"{CODE}/tables.json", before)
    gateway.host.sh("docker rmi -f $(docker images -q --filter label=ds01.uid)", check=False)


def account(gateway: GatewayHost, *options: str) -> tuple[dict[str, int], list[str]]:
    """Measure; return what alice's things take by kind and name, and what she was told."""
    alice = gateway.uid["alice"]
    gateway.host.write(f"{CODE}/account.py", ACCOUNT)
    uses, told = json.loads(gateway.host.run("python3", f"{CODE}/account.py", str(alice), *options).stdout)
    return {f"{one['kind']} {one['name']}": one["bytes"] for one in uses if one["uid"] == alice}, told


def test_what_people_have_is_measured_and_the_rest_refused(gateway: GatewayHost, limit: Any):
    limit(None)
    said = gateway.sh("alice", f"""
    cd /srv/people/alice; mkdir -p big
    printf 'FROM {IMAGE}\\nENV A=b\\nRUN head -c 6m /dev/urandom >/six\\n' >big/Dockerfile
    docker build -q -t six big
    printf 'FROM six\\nRUN head -c 3m /dev/urandom >/three\\n' >big/Dockerfile; docker build -q -t nine big
    docker tag nine again
    docker run --name box -v data:/d {IMAGE} sh -c 'head -c 5m /dev/urandom >/five; head -c 8m /dev/urandom >/d/eight'
    docker run --name talks {IMAGE} sh -c 'head -c 1m /dev/zero | tr "\\0" x'
    """)  # fmt: skip
    gateway.sh("bob", f"docker tag {IMAGE} mine; docker run --name idle {IMAGE} true")
    uses, told = account(gateway)
    near = {name: round(size / MIB) for name, size in uses.items()}
    assert near["volume data"] == 8, said
    # The log of a container counts; each of its lines has a frame around it.
    assert near["container box"] == 5
    assert near["container talks"] >= 1
    assert gateway.sh("alice", "docker system df --format '{{.Type}} {{.Active}} {{.Size}}' | grep Vol") == (
        "Local Volumes 1 8.389MB\n"
    )
    images = {name: size for name, size in near.items() if name.startswith("image")}
    assert sorted(images.values()) == [3, 6], images
    assert told == []
    total = sum(uses.values())

    limit(total * 11 // 10)
    assert "more" in gateway.sh("alice", "docker volume create more")
    gateway.sh("alice", "docker volume rm more")
    _, told = account(gateway)
    assert len(told) == 1
    assert "`docker volume rm data` (8.0 MiB); `docker rmi six:latest` (6.0 MiB)" in told[0]
    assert len(account(gateway)[1]) == 1

    limit(total)
    _, told = account(gateway)
    assert len(told) == 2
    assert "(100 %)" in told[1]
    refused = {name: gateway.sh("alice", f"cd /srv/people/alice; {grow}") for name, grow in GROW.items()}
    assert {name: text for name, text in refused.items() if "docker volume rm data" not in text} == {}
    assert [event["rule"] for event in gateway.events("gateway.refuse")[-2:]] == ["limits.storage.docker"] * 2
    # What is there can be used, looked at, and got rid of; and others have room.
    assert "eight" in gateway.sh("alice", "docker start box && docker cp box:/five - | wc -c; "
                                 "docker volume ls && docker logs talks | wc -c; echo eight")  # fmt: skip
    assert gateway.sh("bob", "docker volume create his") == "his\n"

    # What was removed counts at once, also before the next measurement.
    gateway.sh("alice", "docker rm -f talks")
    assert gateway.sh("alice", "docker volume create room") == "room\n"
    kept = account(gateway, "--dry-run")[0]
    assert sum(kept.values()) == total
    uses, told = account(gateway)
    assert len(told) == 2
    assert sum(uses.values()) < total
    quota = json.loads(gateway.host.sh(
        "setpriv --reuid=alice --clear-groups curl -s --unix-socket /run/gw/docker.sock http://x/ds01/v1/usage"
    ))["quotas"]["storage.docker"]  # fmt: skip
    assert quota == [sum(uses.values()), total]
    assert "space: 8.389MB" in gateway.sh("alice", "docker rm -f box; docker volume prune -af")


FORGE = """
import hashlib, io, json, os, tarfile
layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as tar:
    info = tarfile.TarInfo("seven")
    info.size = 7 << 20
    tar.addfile(info, io.BytesIO(os.urandom(info.size)))
digest = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
config = {"os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [digest]}, "history": []}
manifest = [{"Config": "config.json", "RepoTags": ["forged:latest"], "Layers": ["layer.tar"]}]
with tarfile.open("forged.tar", "w") as tar:
    for name, data in (("config.json", json.dumps(config).encode()), ("layer.tar", layer.getvalue()),
                       ("manifest.json", json.dumps(manifest).encode())):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"""


def test_an_image_that_says_nothing_of_its_layers_takes_what_it_takes(gateway: GatewayHost, limit: Any):
    limit(None)
    gateway.host.write("/srv/people/forge.py", FORGE)
    said = gateway.sh("alice", "cd /srv/people/alice; python3 /srv/people/forge.py; docker load -i forged.tar")
    taken = {name: round(size / MIB) for name, size in account(gateway)[0].items() if "forged" in name}
    assert list(taken.values()) == [7], said


def test_nothing_that_runs_is_ended_for_its_space(gateway: GatewayHost, limit: Any):
    write = "head -c 4m /dev/urandom >/four; echo written; exec sleep 600"
    assert len(gateway.sh("alice", f"docker run -d --name runs {IMAGE} sh -c '{write}'").strip()) == 64
    gateway.sh("alice", "timeout 60 sh -c 'until docker logs runs | grep -q written; do sleep 0.1; done'")
    limit(MIB)
    account(gateway)
    assert "so nothing new is made" in gateway.sh("alice", "docker volume create more")
    assert gateway.sh(
        "alice", "docker exec runs echo alive; docker restart -t 0 runs; docker exec runs echo again"
    ) == ("alive\nruns\nagain\n")
