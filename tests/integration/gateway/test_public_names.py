"""No way to make an image moves a name that is everybody's or another's: the next one to use it gets what it was."""

from __future__ import annotations

import io
import tarfile

from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.raw_requests import IMAGE, request, send

SPELLINGS = (IMAGE, f"docker.io/{IMAGE}", f"index.docker.io/{IMAGE}", "library/python", "python")
PUBLIC = (IMAGE, "python")


def archive(name: str, content: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))
    return out.getvalue()


def names(gateway: GatewayHost) -> dict[str, str]:
    """Which image each name means in the engine."""
    listed = gateway.host.sh("docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}'")
    return dict(line.split() for line in listed.splitlines() if "<none>" not in line)


def test_whatever_makes_an_image_moves_only_names_of_ones_own(gateway: GatewayHost):
    alice, bob = gateway.uid["alice"], gateway.uid["bob"]
    gateway.host.sh(f"docker tag {IMAGE} python")
    made = "docker run --name m {} sh -c 'echo {} >/file'; docker commit m {}; docker rm m"
    gateway.sh("bob", made.format(IMAGE, "bobs", "model"))
    gateway.sh("alice", made.format(IMAGE, "evil", "evil"))
    gateway.run("alice", "docker", "create", "--name", "box", "evil", "true")
    before = names(gateway)
    files, context = archive("evil", "x"), archive("Dockerfile", f"FROM {IMAGE}\nRUN touch /evil\n")
    ways = {
        "import": lambda name: request(f"POST /images/create?fromSrc=-&repo={name}&tag=latest", files),
        "import without a tag": lambda name: request(f"POST /images/create?fromSrc=-&repo={name}", files),
        "import of a tag": lambda name: request(f"POST /images/create?fromSrc=-&repo={name}:latest", files),
        "commit": lambda name: request(f"POST /commit?container=box&repo={name}&tag=latest", {}),
        "commit without a tag": lambda name: request(f"POST /commit?container=box&repo={name}", {}),
        "tag": lambda name: request(f"POST /images/evil/tag?repo={name}&tag=latest"),
        "build": lambda name: request(f"POST /build?t={name}", context),
        "build of several": lambda name: request(f"POST /build?t=own&t={name}:latest&t=own:2", context),
    }  # fmt: skip
    mine = {f"ds01-{alice}/{name}:latest" for name in PUBLIC}
    try:
        for what, way in ways.items():
            answers = send(gateway, {name: way(name) for name in SPELLINGS})
            assert {name: said for name, said in answers.items() if said[9:10] != "2"} == {}, what
            after = names(gateway)
            assert {name: after.get(name) for name in before} == before, what
            # It has happened: to names that only she sees.
            assert mine <= set(after), what
            gateway.host.sh(f"docker rmi {' '.join(sorted(mine))}")
            # In another's space there is nothing to be had.
            others = send(gateway, {f"ds01-{bob}/model": way(f"ds01-{bob}/model")})
            assert {name: said for name, said in others.items() if said[9:12] != "403"} == {}, what
        assert gateway.sh("bob", "docker run --rm python ls /evil").endswith("No such file or directory\n")
        assert gateway.sh("bob", "docker run --rm model cat /file") == "bobs\n"
        assert {name: identity for name, identity in names(gateway).items() if name in before} == before
    finally:
        gateway.sh("alice", "docker rm -f box; docker rmi -f evil own own:2; docker image prune -af")
        gateway.sh("bob", "docker rmi -f model")
        gateway.host.sh("docker rmi python", check=False)
