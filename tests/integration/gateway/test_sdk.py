"""The Docker SDK for Python, unmodified, as two people at once."""

from __future__ import annotations

import importlib.util
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.integration.gateway.gateway_host import CODE, GatewayHost

IMAGE = "ds01-lab/base"
PACKAGES = ("docker", "requests", "urllib3", "idna", "certifi", "charset_normalizer")
"""The SDK and what it needs, from the environment of these tests."""
FLOWS = """
import io, json, sys, tarfile
import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
image, me = sys.argv[1:]
found = {}
client = docker.from_env()
found["version"] = client.version()["ApiVersion"] == client.api._version
found["info"] = {"NCPU", "Runtimes", "Images", "Containers", "Debug", "ExperimentalBuild"} <= set(client.info())
found["run"] = client.containers.run(image, ["echo", me], remove=True).decode().strip()
for _ in range(3):
    try:
        client.containers.run(image, ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
    except ContainerError as error:
        found["error"] = [error.exit_status, error.stderr.decode().strip()]
        # The engine takes no more than two seconds for what a container printed at its end, whoever asks for it.
        if error.stderr:
            break
box = client.containers.run(image, ["sh", "-c", "trap 'exit 0' TERM; while sleep 0.1; do :; done"], detach=True,
                            name="sdk", volumes={"data": {"bind": "/data", "mode": "rw"}}, mem_limit="64m",
                            privileged=True, labels={"mine": me}, ports={"80/tcp": None})
box.reload()
found["name"] = [box.name, box.status, list(box.ports)]
code, (out, err) = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 6"], demux=True)
found["exec"] = [code, out.decode(), err.decode()]
found["stream"] = b"".join(box.exec_run("seq 1000", stream=True).output).split() == b" ".join(
    b"%d" % number for number in range(1, 1001)).split()
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as archive:
    entry = tarfile.TarInfo("who")
    entry.size = len(me)
    archive.addfile(entry, io.BytesIO(me.encode()))
box.put_archive("/data", packed.getvalue())
pieces, stat = box.get_archive("/data/who")
with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
    found["archive"] = [stat["name"], archive.extractfile("who").read().decode()]
found["socket"] = None
stream = client.api.exec_start(client.api.exec_create(box.id, ["cat"], stdin=True)["Id"], socket=True)
stream._sock.sendall(b"typed")
stream._sock.shutdown(1)
data = b""
while piece := stream._sock.recv(4096):
    data += piece
found["socket"] = data[8:].decode()
found["stats"] = box.stats(stream=False)["name"]
found["top"] = box.top()["Titles"][0]
box.update(mem_limit="32m", memswap_limit="32m")
box.rename("sdk2")
network = client.networks.create("net", driver="bridge")
network.connect(box, aliases=["a"])
network.reload()
found["network"] = [item.name for item in network.containers]
network.disconnect(box)
network.remove()
talker = client.containers.create(image, ["sh", "-c", "echo one; sleep 0.5; echo two"], name="talker")
events = client.events(decode=True, filters={"container": "talker"})
talker.start()
found["logs"] = [line.decode() for line in talker.logs(stream=True, follow=True)]
found["wait"] = talker.wait()["StatusCode"]
found["events"] = [next(events)["Action"] for _ in range(2)]
events.close()
found["list"] = sorted(item.name for item in client.containers.list(all=True))
found["filtered"] = [item.name for item in client.containers.list(filters={"label": "mine=" + me})]
found["volumes"] = [item.name for item in client.volumes.list()]
dockerfile = io.BytesIO(f"FROM {image}\\nRUN echo {me} >/made\\n".encode())
made, _ = client.images.build(fileobj=dockerfile, tag="made", rm=True)
found["built"] = [made.tags, client.containers.run("made", ["cat", "/made"], remove=True).decode().strip()]
client.images.remove("made")
for name, error in (("nothing", NotFound), ("sdk", NotFound)):
    try:
        client.containers.get(name)
    except error as seen:
        found[name] = seen.explanation
try:
    client.images.get("made")
except ImageNotFound:
    found["gone"] = True
box.stop(timeout=5)
found["exit"] = box.wait()["StatusCode"]
found["pruned"] = len(client.containers.prune()["ContainersDeleted"])
client.volumes.get("data").remove()
print(json.dumps(found))
"""


@pytest.fixture
def sdk(gateway: GatewayHost) -> str:
    """Where the SDK lies on the host."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in PACKAGES:
            spec = importlib.util.find_spec(name)
            assert spec is not None
            assert spec.origin is not None
            # The host has another Python: what is compiled stays here, each of these does without.
            archive.add(
                Path(spec.origin).parent,
                name,
                filter=lambda item: None if item.name.endswith((".so", ".pyc")) else item,
            )
    gateway.host.run("sh", "-euc", f"mkdir -p {CODE}/sdk; tar x -C {CODE}/sdk", stdin=packed.getvalue())
    gateway.host.sh(f"rm -rf /opt/sdk; cp -r {CODE}/sdk /opt/sdk; chmod -R a+rX /opt/sdk")
    return "/opt/sdk"


def test_everyday_flows_of_two_at_once(gateway: GatewayHost, sdk: str):
    gateway.host.write("/opt/flows.py", FLOWS)
    # With cgroup v1, as this host may have it, systemd removes a slice with its last container, also from under the
    # container that begins in it at that moment.
    for user in ("alice", "bob"):
        gateway.host.sh(f"systemd-run --collect --unit=keep-{user} --slice=ds01-student-{user}.slice sleep 300")
    running = {
        user: gateway.start(user, f"PYTHONPATH={sdk} python3 -W ignore /opt/flows.py {IMAGE} {user}")
        for user in ("alice", "bob")
    }
    for user, process in running.items():
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        # An interpreter that ends may have more to say.
        assert json.loads(next(line for line in said.splitlines() if line.startswith("{"))) == {
            "version": True, "info": True, "run": user, "error": [4, "bad"], "name": ["sdk", "running", ["80/tcp"]],
            "exec": [6, "out\n", "err\n"], "stream": True, "archive": ["who", user], "socket": "typed",
            "stats": "/sdk", "top": "UID", "network": ["sdk2"], "logs": ["one\n", "two\n"], "wait": 0,
            "events": ["start", "die"], "list": ["sdk2", "talker"], "filtered": ["sdk2"], "volumes": ["data"],
            "built": [["made:latest"], user], "nothing": "No such container: nothing",
            "sdk": "No such container: sdk", "gone": True, "exit": 0, "pruned": 2,
        }  # fmt: skip
