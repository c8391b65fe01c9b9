"""Images of two people and of everybody: from and to registries, archives and containers; what counts is the engine."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator

import pytest

from tests.integration.gateway.gateway_host import CODE, MAIN, GatewayHost
from tests.integration.gateway.gpu_host import until

BASE = "ds01-lab/base"
OPEN, CLOSED, SILENT, SLOW = "localhost:5001", "localhost:5000", "localhost:5002", "localhost:5003"
REGISTRIES = """
hash=$(perl -e 'print crypt("secret", "\\$2y\\$05\\$abcdefghijklmnopqrstuu")')
printf 'alice:%s\\n' "$hash" >/root/htpasswd
for port in 5000 5001; do
  printf 'version: 0.1\\nstorage: {filesystem: {rootdirectory: /var/lib/reg-%s}}\\n' $port >/root/registry-$port.yml
  printf 'http: {addr: "127.0.0.1:%s"}\\n' \
    $port >>/root/registry-$port.yml
done
echo 'auth: {htpasswd: {realm: lab, path: /root/htpasswd}}' >>/root/registry-5000.yml
for port in 5000 5001; do
  systemd-run --quiet --unit registry-$port docker-registry serve /root/registry-$port.yml
  timeout 120 sh -c "until curl -s -o /dev/null http://localhost:$port/v2/; do sleep 0.1; done"
done
systemd-run --quiet --unit silent python3 -c 'import socket, time
s = socket.create_server(("127.0.0.1", 5002)); time.sleep(9999)'
timeout 120 sh -c 'until ss -Hltn sport = :5002 | grep -q .; do sleep 0.1; done'
"""
# Is there, and then takes for ever; each image that is asked for is a line.
SLOWLY = """
import http.server, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/v2/":
            with open("/root/asked", "a") as file:
                file.write(self.path + "\\n")
            time.sleep(9999)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", 5003), Answer).serve_forever()
"""
AT_ONCE = 4
"""Pulls of one person."""

CLEAN = """
set +e
docker rm -fv $(docker ps -aq)
for form in '{{.Repository}}@{{.Digest}}' '{{.Repository}}:{{.Tag}}'; do
  docker images --digests --format "$form" | grep -v -e ^ds01-lab -e '<none>' | sort -u | xargs -r docker rmi -f
done
docker image prune -f
"""


@pytest.fixture(scope="module")
def registries(gateway: GatewayHost) -> None:
    """One registry for everybody, one with a password, and one that never answers."""
    gateway.host.sh(REGISTRIES)


@pytest.fixture(autouse=True)
def _only_the_base(gateway: GatewayHost) -> Iterator[None]:
    yield
    gateway.host.sh(CLEAN, check=False)


def tags(gateway: GatewayHost) -> set[str]:
    """What the engine itself has."""
    return set(gateway.host.sh("docker images --format '{{.Repository}}:{{.Tag}}'").split())


def made(gateway: GatewayHost, user: str, name: str, content: str) -> str:
    """An image of somebody's with a file in it; its id."""
    script = (
        f"docker run --name maker {BASE} sh -c 'echo {content} >/file'; docker commit maker {name}; docker rm maker"
    )
    found = [line for line in gateway.sh(user, script).splitlines() if line.startswith("sha256:")]
    assert len(found) == 1
    return found[0]


@pytest.mark.usefixtures("registries")
def test_an_open_registry_is_everybodys(gateway: GatewayHost):
    made(gateway, "alice", "model", "weights")
    name = f"{OPEN}/lab/model:1"
    said = gateway.sh("alice", f"docker tag model {name}; docker push -q {name} && docker images -q {name} | wc -l")
    assert said == f"{name}\n1\n"
    # In the engine it stays hers: the registry's name was there only while it was pushed.
    assert name not in tags(gateway)
    assert f"ds01-{gateway.uid['alice']}/localhost--5001/lab/model:1" in tags(gateway)
    assert f"No such image: {name}" in gateway.sh("bob", f"docker image inspect {name}")
    said = gateway.sh("bob", f"docker pull -q {name}; docker run --rm {name} cat /file; docker rmi {name}")
    assert "weights" in said
    assert "is everybody's" in said
    assert name in tags(gateway)
    # What is everybody's is pushed by nobody, and what is alice's not by bob.
    said = gateway.sh("bob", f"docker push {name}; docker push model; docker pull ghcr.io/x/y; docker search ghcr.io/x")
    assert f"docker tag {name} NAME" in said
    assert "No such image: model" in said or "does not exist" in said
    assert said.count("only registries that the policy names") == 2


@pytest.mark.usefixtures("registries")
def test_what_came_with_a_password_is_the_pullers_alone(gateway: GatewayHost):
    made(gateway, "alice", "private", "diagnosis")
    name = f"{CLOSED}/clinic/private:1"
    said = gateway.sh(
        "alice",
        f"echo secret | docker login -u alice --password-stdin {CLOSED} 2>/dev/null; docker tag private {name};"
        f"docker push -q {name}; docker rmi private {name}; docker pull {name}; docker run --rm {name} cat /file;"
        f"printf 'FROM {name}\\nRUN cat /file' | docker build -q -",
    )
    assert "Login Succeeded" in said
    assert "yours alone" in said
    assert said.splitlines()[-1].startswith("sha256:")
    assert name not in tags(gateway)
    identity = gateway.host.sh(
        f"docker images -q --no-trunc ds01-{gateway.uid['alice']}/localhost--5000/clinic/private"
    )
    digest = gateway.host.sh(f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {identity}").strip()
    said = gateway.sh(
        "bob",
        f"docker run --rm {name} cat /file; docker run --rm {identity.strip()} cat /file;"
        f"docker run --rm {digest} cat /file; docker login -u bob -p wrong {CLOSED}; docker login -u x -p y ghcr.io",
    )
    assert "diagnosis" not in said
    assert "clinic" not in gateway.sh("bob", "docker images --digests; docker events --since 60s --until 0s")
    assert said.count("no basic auth credentials") >= 2
    assert "unauthorized" in said.lower()
    assert "ghcr.io: only registries" in said
    # The last name of hers takes the layers with it, though the registry's digest was on them too.
    gateway.run("alice", "docker", "rmi", "-f", name)
    gateway.run("alice", "docker", "image", "prune", "-af")
    assert identity.strip() not in gateway.host.sh("docker images -aq --no-trunc")
    events = gateway.host.sh("cat /var/log/ds01/events.jsonl; journalctl -u gw.service --no-pager")
    assert "secret" not in events.replace("secret._.", "")


@pytest.mark.usefixtures("registries")
def test_pulls_beyond_ones_share_wait_and_are_done_then(gateway: GatewayHost):
    host = gateway.host
    host.write("/root/slow.py", SLOWLY)
    host.sh("systemd-run --quiet --collect --unit slow python3 /root/slow.py")
    wanted = [f"{OPEN}/lab/waits:{number}" for number in (1, 2)]
    made(gateway, "alice", "waits", "weights")
    for name in wanted:
        gateway.run("alice", "docker", "tag", "waits", name)
        gateway.run("alice", "docker", "push", "-q", name)
        gateway.run("alice", "docker", "rmi", name)
    slow = [gateway.start("alice", f"exec docker pull {SLOW}/lab/slow:{number}") for number in range(AT_ONCE)]
    asked = "sort -u /root/asked 2>/dev/null | grep -c manifests"
    host.sh(f"timeout 120 sh -c 'until [ $({asked}) -ge {AT_ONCE} ]; do sleep 0.2; done'")
    waiting = [gateway.start("alice", f"docker pull {name}") for name in wanted]
    for process, name in zip(waiting, wanted, strict=True):
        assert process.stdout is not None
        assert f"{name}: waiting for other pulls of yours" in process.stdout.readline()
    # Others do not wait for her; nothing of hers is asked of the registry yet.
    assert gateway.run("bob", "docker", "pull", "-q", wanted[0]).stdout == f"{wanted[0]}\n"
    assert wanted[1] not in tags(gateway)
    assert host.sh(asked).strip() == str(AT_ONCE)
    # Somebody who waits and goes away takes nobody's turn; one that ends lets all others go on, one by one.
    host.sh(f"pkill -u alice -f 'docker pull {wanted[0]}'")
    waiting[0].communicate(timeout=120)
    host.sh(f"pkill -u alice -f 'docker pull {SLOW}/lab/slow:0'")
    slow[0].communicate(timeout=120)
    assert f"Downloaded newer image for {wanted[1]}" in waiting[1].communicate(timeout=120)[0]
    assert wanted[1] in tags(gateway)
    assert all(process.poll() is None for process in slow[1:]), "theirs go on meanwhile"
    host.sh(f"pkill -u alice -f 'docker pull {SLOW}'; systemctl stop slow")
    for process in slow[1:]:
        process.communicate(timeout=120)


@pytest.mark.usefixtures("registries")
def test_a_push_that_was_cut_off_leaves_no_name(gateway: GatewayHost):
    made(gateway, "alice", "mine", "x")
    name = f"{SILENT}/lab/mine:1"
    gateway.run("alice", "docker", "tag", "mine", name)
    pushing = gateway.start("alice", f"docker push {name}")
    assert until(lambda: name in tags(gateway))
    assert f"No such image: {name}" in gateway.sh("bob", f"docker image inspect {name}; docker images | grep {SILENT}")
    assert "pushed at this moment" in gateway.sh("bob", f"docker pull {name}")
    gateway.host.sh(f"kill -9 {gateway.main_pid()}")
    pushing.wait(120)
    assert until(lambda: SILENT not in gateway.sh("bob", "docker images") and name not in tags(gateway))
    assert name in gateway.sh("alice", "docker images --format '{{.Repository}}:{{.Tag}}'")


def test_archives_go_out_by_short_names_and_come_in_to_ones_own(gateway: GatewayHost):
    made(gateway, "alice", "one", "first")
    script = (
        f"cd $(mktemp -d); docker tag one two:2; docker save -o all.tar one two:2 {BASE}; tar xOf all.tar manifest.json"
    )
    named = json.loads(gateway.sh("alice", script))
    assert sorted(name for item in named for name in item["RepoTags"]) == [f"{BASE}:latest", "one:latest", "two:2"]
    raw = gateway.run("alice", "sh", "-c", "docker save one | gzip -c | base64 -w0").stdout
    gateway.run("bob", "sh", "-c", "cd $(mktemp -d); base64 -d >one.tgz; docker load -i one.tgz", stdin=raw.encode())
    assert gateway.sh("bob", "docker run --rm one cat /file") == "first\n"
    assert {f"ds01-{gateway.uid[user]}/one:latest" for user in ("alice", "bob")} <= tags(gateway)
    # The same image is both's: each takes only the own name away.
    gateway.run("alice", "docker", "rmi", "one", "two:2")
    assert gateway.sh("bob", "docker run --rm one cat /file") == "first\n"
    assert "No such image: one" in gateway.sh("alice", "docker image inspect one")


def archive(source: bytes, changed: dict[str, object], *, more: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """An archive of an image with other files in it, and entries behind its end."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(source)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            if member.name not in changed:
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
        for name, value in changed.items():
            if value is not None:
                content = json.dumps(value).encode()
                info = tarfile.TarInfo(name)
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))
        for info in more:
            new.addfile(info, io.BytesIO(b"x" * info.size))
    return out.getvalue()


def test_no_archive_moves_a_name_that_is_not_ones_own(gateway: GatewayHost):
    alice, bob = gateway.uid["alice"], gateway.uid["bob"]
    made(gateway, "bob", "victim", "bobs")
    before = {name: gateway.inspect(name)["Id"] for name in (f"{BASE}:latest", f"ds01-{bob}/victim:latest")}
    made(gateway, "alice", "evil", "evil")
    plain = base64.b64decode(gateway.host.sh(f"docker save ds01-{alice}/evil:latest | base64 -w0"))
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
        index = json.load(tar.extractfile("index.json"))
    names = [f"{BASE}:latest", f"ds01-{bob}/victim:latest", f"docker.io/ds01-{bob}/victim", "docker.io/library/x:1"]
    evil = [manifest[0] | {"RepoTags": names}]
    over = tarfile.TarInfo("./manifest.json")
    link = tarfile.TarInfo("blobs/../manifest.json")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for note in index["manifests"]:
        note["annotations"] = {"io.containerd.image.name": f"docker.io/{BASE}:latest"}
    hostile = {
        "names": archive(plain, {"manifest.json": evil}),
        "repositories": archive(plain, {"manifest.json": evil, "repositories": {BASE: {"latest": "0" * 64}}}),
        "index": archive(plain, {"manifest.json": evil, "index.json": index}),
        "no manifest": archive(plain, {"manifest.json": None, "index.json": index}),
        "twice": archive(plain, {"manifest.json": evil}, more=(over,)),
        "a link": archive(plain, {"manifest.json": evil}, more=(link,)),
        "host file": archive(plain, {"manifest.json": [manifest[0] | {"Config": "../../../etc/shadow"}]}),
        "bad name": archive(plain, {"manifest.json": [manifest[0] | {"RepoTags": [f"ds01-{alice}/ds01-{bob}/x:1"]}]}),
        "no tar": b"x" * 2000, "cut": plain[: len(plain) // 2], "nothing": b"",
    }  # fmt: skip
    for what, content in hostile.items():
        said = gateway.run("alice", "docker", "load", stdin=content, check=False)
        fine = what in {"names", "repositories", "index"}
        assert (said.returncode == 0) == fine, (what, said.stdout, said.stderr)
        assert ("cannot be loaded" in said.stderr or "cannot be read" in said.stderr or what == "bad name") != fine, (
            what
        )
        for name, identity in before.items():
            assert gateway.inspect(name)["Id"] == identity, what
    assert gateway.sh("bob", "docker run --rm victim cat /file") == "bobs\n"
    assert {f"ds01-{alice}/{BASE}:latest", f"ds01-{alice}/victim:latest", f"ds01-{alice}/x:1"} <= tags(gateway)


SAVES = """
def main(image):
    head = f"GET /images/{image}/get HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode()
    def begin():
        sock = connect()
        sock.sendall(head)
        return sock, sock.recv(12).decode()
    # The client does not read on, so that the engine keeps the whole archive.
    held = [begin() for _ in range(3)]
    said = [line for _, line in held]
    held[0][0].close()
    deadline = time.monotonic() + 60
    while (again := begin())[1].endswith("429") and time.monotonic() < deadline:
        again[0].close()
    return [*said, again[1]]
"""


def test_few_archives_of_one_person_wait_on_the_disk_of_the_engine(gateway: GatewayHost):
    # More than connections and pipes hold.
    gateway.sh("alice", "cd $(mktemp -d); head -c 60000000 /dev/urandom >file; tar -c file | docker import - large")
    done = gateway.python("alice", SAVES, image="large")
    assert done == ["HTTP/1.1 200", "HTTP/1.1 200", "HTTP/1.1 429", "HTTP/1.1 200"]
    gateway.run("alice", "docker", "rmi", "large")


def test_an_upload_is_kept_on_disk_and_ends_at_its_limit(gateway: GatewayHost):
    pid = gateway.main_pid()
    script = """
    head -c 60000000 /dev/zero >zeros; tar -c zeros | docker load
    head -c 70000000 /dev/zero | docker load; head -c 90000000 /dev/zero | gzip -c | docker load
    head -c 70000000 /dev/zero | docker import - big; head -c 70000000 /dev/zero | gzip -c | docker build -
    """
    said = gateway.sh("alice", script)
    assert "no manifest.json" in said
    assert said.count("the most that images.max_upload allows") == 4
    assert int(gateway.host.sh(f"awk '/VmHWM/ {{print $2}}' /proc/{pid}/status")) < 200_000
    assert gateway.host.sh(f"ls -l /proc/{pid}/fd | grep -c spool || true").strip() == "0"


def test_a_foreign_image_is_like_none(gateway: GatewayHost):
    # No registry answers, and it says so in the same words each time.
    gateway.host.sh("echo 127.0.0.1 registry-1.docker.io >>/etc/hosts")
    identity = made(gateway, "bob", "thesis", "secret-of-bob").removeprefix("sha256:")
    nothing = "0123456789ab" + "c" * 52
    bob = gateway.uid["bob"]
    verbs = """
    docker image inspect {0}; docker run --rm {0} cat /file; docker tag {0} stolen; docker rmi {0}
    docker save {0} | wc -c; docker push {0}; docker images --filter since={0}; docker ps -a --filter ancestor={0}
    printf 'FROM {0}\\nRUN cat /file' | docker build -q -; printf 'FROM {base}\\nCOPY --from={0} /file /' | docker build -q -
    """  # noqa: E501 - a script

    def said(name: str) -> str:
        return gateway.sh("alice", verbs.format(name, base=BASE)).replace(name, "NAME")

    missing = {said(nothing), said(nothing[:12])}
    assert {said(identity), said(identity[:12])} == missing
    assert said(f"sha256:{identity}") == said(f"sha256:{nothing}")
    assert said(f"ds01-{bob}/thesis") == said(f"ds01-{bob}/nothing").replace("nothing", "thesis")
    assert not any("stolen" in tag for tag in tags(gateway))
    assert "secret-of-bob" not in "".join(missing)


def test_images_without_a_name_are_their_makers(gateway: GatewayHost):
    script = f"""
    docker run --name box {BASE} sh -c 'echo hi >/file' ; docker commit box; docker export box | docker import -
    printf 'FROM {BASE}\\nRUN echo built >/built' | docker build -q - 2>/dev/null; docker rm box >/dev/null
    """
    found = [line for line in gateway.sh("alice", script).splitlines() if line.startswith("sha256:")]
    assert len(found) == 3
    for identity in found:
        assert gateway.sh("alice", f"docker run --rm {identity} true") == ""
        assert "No such image" in gateway.sh("bob", f"docker image inspect {identity}")
    # A name that moves on leaves its old image without one.
    gateway.sh("alice", f"docker tag {found[0]} work; docker tag {found[1]} work")
    dangling = gateway.sh("alice", "docker images -q --no-trunc -f dangling=true").split()
    assert sorted(dangling) == sorted([found[0], found[2]])
    usage = gateway.sh("alice", "docker system df --format '{{.Type}} {{.TotalCount}}'")
    assert "Images 3" in usage
    assert "Images 0" in gateway.sh(
        "bob", "docker system df --format '{{.Type}} {{.TotalCount}}'; docker image prune -af"
    )
    gateway.run("alice", "docker", "run", "-d", "--name", "user", found[2], "sleep", "99")
    gateway.run("alice", "docker", "image", "prune", "-f")
    there = gateway.sh("alice", "docker images -q --no-trunc").split()
    # One is in use and one has a name.
    assert found[0] not in there
    assert {found[1], found[2]} <= set(there)
    assert gateway.run("alice", "docker", "rmi", found[2], check=False).returncode == 1
    gateway.run("alice", "docker", "rm", "-f", "user")
    gateway.run("alice", "docker", "rmi", found[2], "work")
    assert not any(identity in gateway.host.sh("docker images -aq --no-trunc") for identity in found)


# The service as it is, but that a name comes to mean another image between its look at it and the engine's.
MOVING_MAIN = MAIN.replace(
    "sys.exit(",
    """
import subprocess
from ds01.gateway import engine
call = engine.Engine.call
async def late(self, method, path, **named):
    if "/containers/create" in path:
        subprocess.run(["docker", "tag", "other:1", "moving:1"], check=True)
    return await call(self, method, path, **named)
engine.Engine.call = late
sys.exit(""",
)


def test_a_name_that_moves_at_that_very_moment_makes_nothing(gateway: GatewayHost):
    changed = (
        "docker commit -c 'LABEL other=1' $(docker create ds01-lab/base) other:1; docker tag ds01-lab/base moving:1"
    )
    gateway.host.sh(f"{changed}; docker rm -f $(docker ps -aq)")
    gateway.host.write(f"{CODE}/main.py", MOVING_MAIN)
    gateway.host.sh("systemctl restart gw.service")
    try:
        said = gateway.sh("alice", "docker create --name first -v brought:/x moving:1 true")
        assert "the image changed at this very moment: try again" in said
        assert gateway.host.sh("docker ps -aq") == ""
        # What it means by now was looked at the next time.
        gateway.run("alice", "docker", "create", "--name", "first", "moving:1", "true")
        assert gateway.inspect(f"first._.{gateway.uid['alice']}")["Config"]["Labels"]["other"] == "1"
    finally:
        gateway.host.write(f"{CODE}/main.py", MAIN)
        gateway.host.sh("systemctl restart gw.service")


def test_labels_of_ours_are_not_inherited(gateway: GatewayHost):
    changes = "-c 'LABEL ds01.gpu.token=stolen DS01.user=root ds01.uid=0 own=mine'"
    script = f"docker run --name m {BASE} true; docker commit {changes} m it; docker create --name c it"
    gateway.sh("alice", f"{script}; docker commit -c 'LABEL ds01.protected=1' m bad")
    labels = gateway.inspect(f"c._.{gateway.uid['alice']}")["Config"]["Labels"]
    assert (labels["ds01.gpu.token"], labels["DS01.user"], labels["own"]) == ("", "", "mine")
    assert (labels["ds01.user"], labels["ds01.uid"]) == ("alice", str(gateway.uid["alice"]))
    assert "only administrators give" in gateway.sh("alice", "docker create bad")


def test_what_was_there_before_is_everybodys_and_stays(gateway: GatewayHost):
    alice = gateway.uid["alice"]
    mine = f"aimehub/old:nets._.{alice}"
    gateway.host.sh(f"docker tag {BASE} before/ds01:1; docker tag {BASE} {mine}")
    assert gateway.sh("bob", "docker run --rm before/ds01:1 echo ran; docker rmi before/ds01:1") == (
        "ran\nError response from daemon: before/ds01:1 is everybody's: it is removed when nobody uses it any more\n"
    )
    assert mine not in gateway.sh(
        "bob", f"docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}'; docker run --rm {mine}"
    ).replace(f"'{mine}'", "").replace(f"image: {mine}", "").replace(f"{mine!r}", "")
    assert mine in gateway.sh("alice", "docker images --format '{{.Repository}}:{{.Tag}}'")
    # As AIME's remove does it: the container, then the image by the name that the container says.
    gateway.run("alice", "docker", "create", "--name", "nets", mine, "true")
    shown = gateway.sh("alice", "docker inspect --format '{{.Config.Image}}' nets").strip()
    assert shown == mine
    gateway.run("alice", "sh", "-c", f"docker rm nets && docker image rm {shown}")
    assert mine not in tags(gateway)
    gateway.run(
        "alice", "sh", "-c", f"docker run --name p {BASE} true; docker commit p aimehub/new:p._.{alice}; docker rm p"
    )
    gateway.run("alice", "docker", "create", "--name", "p", f"aimehub/new:p._.{alice}", "true")
    assert gateway.inspect(f"p._.{alice}")["Config"]["Image"] == f"ds01-{alice}/aimehub/new:p._.{alice}"
    shown = gateway.sh("alice", "docker ps -a --format '{{.Image}}'; docker inspect --format '{{.Config.Image}}' p")
    assert shown == f"aimehub/new:p._.{alice}\n" * 2
