"""Whether somebody else has something is not to be found out: the answers are those for what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.gateway.gateway_host import GatewayHost
from tests.integration.gateway.gpu_host import until
from tests.integration.gateway.raw_requests import IMAGE, request, send

SECRET = "diary-of-bob"  # noqa: S105 - what must not be read
NOTHING = "0123456789ab" + "c" * 52
CONTAINERS = ("victim", "nobody")
NETWORKS = ("private", "nothing")
VOLUMES = ("secret", "absent")
IMAGES = ("diary", "blank")
# Filters of lists and of events: what is asked for, and of which kind the value is.
FILTERED = (
    ("/containers/json?all=1", "before", "container"), ("/containers/json?all=1", "since", "container"),
    ("/containers/json?all=1", "id", "container"), ("/containers/json?all=1", "name", "container"),
    ("/containers/json?all=1", "network", "network"), ("/containers/json?all=1", "volume", "volume"),
    ("/containers/json?all=1", "ancestor", "image"), ("/images/json?all=1", "before", "image"),
    ("/images/json?all=1", "since", "image"), ("/images/json?all=1", "reference", "image"),
    ("/networks?a=1", "id", "network"), ("/networks?a=1", "name", "network"), ("/volumes?a=1", "name", "volume"),
    *((f"/events?since=0&until=NOW&kind={kind}", kind, kind) for kind in ("container", "network", "volume", "image")),
)  # fmt: skip
OF_IMAGES = ("GET {}/json", "GET {}/history", "GET {}/get", "POST {}/push?tag=latest", "POST {}/tag?repo=mine",
             "DELETE {}", "DELETE {}?force=1")  # fmt: skip


@pytest.fixture(scope="module")
def _image_of_bobs(gateway: GatewayHost) -> Iterator[None]:
    made = f"docker run --name m {IMAGE} sh -c 'echo {SECRET} >/file'; docker commit m diary; docker rm m"
    gateway.sh("bob", made)
    gateway.sh("alice", made.replace(SECRET, "of-alice").replace("diary", "mine"))
    yield
    gateway.sh("bob", "docker rmi -f diary")
    gateway.sh("alice", "docker rmi -f mine")


@pytest.fixture
def pairs(gateway: GatewayHost, _image_of_bobs: None, victim: str) -> dict[str, list[tuple[str, str]]]:
    """By kind each spelling of something of bob's, and the same of what nobody has."""
    del _image_of_bobs
    bob = gateway.uid["bob"]
    network = gateway.host.sh(f"docker network inspect -f '{{{{.Id}}}}' private._.{bob}").strip()
    image = gateway.inspect(f"ds01-{bob}/diary")["Id"].removeprefix("sha256:")
    # He has made a container of it, and an event of each kind is there to be seen.
    gateway.run("bob", "docker", "create", "--name", "writes", "diary", "true")

    def spelled(names: tuple[str, str], identity: str) -> list[tuple[str, str]]:
        of_bob: list[tuple[str, str]] = [(f"{names[0]}._.{bob}", f"{names[1]}._.{bob}")]
        by_id = [(identity, NOTHING), (identity[:12], NOTHING[:12])] if identity else []
        return [names, *of_bob, *by_id]

    return {
        "container": spelled(CONTAINERS, victim),
        "network": spelled(NETWORKS, network),
        "volume": spelled(VOLUMES, ""),
        "image": [IMAGES, (f"ds01-{bob}/diary", f"ds01-{bob}/blank"), (image, NOTHING), (image[:12], NOTHING[:12]),
                  (f"sha256:{image}", f"sha256:{NOTHING}")],
    }  # fmt: skip


def differing(gateway: GatewayHost, lines: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
    """The answers to pairs of requests that are not the same but for what was typed: the name, and its last part."""
    found = {}
    for number, asked in enumerate(("theirs", "nobody's")):
        raw = {name: request(line[number].partition(" TYPED ")[0]) for name, line in lines.items()}
        for name, said in send(gateway, raw).items():
            typed = lines[name][number].partition(" TYPED ")[2]
            plain = (
                re.sub(r"\r\nDate: [^\r]*", "", said).replace(typed, "TYPED").replace(typed.rpartition("/")[2], "LAST")
            )
            found.setdefault(name, []).append(plain)
            assert SECRET not in said, (asked, name)
    assert len(found) == len(lines)
    return {name: both for name, both in found.items() if both[0] != both[1]}


def test_filters_do_not_say_what_others_have(gateway: GatewayHost, pairs: dict[str, list[tuple[str, str]]]):
    # There is something of hers to be shown or not, made before and after what is his.
    options = ("--name", "box", "--stop-signal=KILL", "-v", "data:/d")
    gateway.run("alice", "docker", "run", "-d", *options, "mine", "sleep", "299")
    now = gateway.host.sh("date +%s.%N").strip()
    lines = {}

    def add(path: str, value: tuple[str, str], form: str) -> None:
        first, second = (f"GET {path.replace('NOW', now)}{form.format(quote(each))} TYPED {each}" for each in value)
        lines[f"{path} {form} {value[0]}"] = (first, second)

    for path, name, kind in FILTERED:
        for value in pairs[kind]:
            for form in (f'{{"{name}":["@"]}}', f'{{"{name}":{{"@":true}}}}'):
                add(path, value, "&filters=" + quote(form).replace("%40", "{}"))
    for value in pairs["container"]:
        for name in ("before", "since"):
            add("/containers/json?all=1", value, f"&{name}={{}}")
    assert len(lines) > 100
    assert differing(gateway, lines) == {}
    # They were asked, and not for nothing: the same question about what is hers has an answer.
    answers = send(gateway, {line: request(first.partition(" TYPED ")[0]) for line, (first, _) in lines.items()})
    missing = {line for line in lines if "before" in line or "since%22" in line or "&since={}" in line}
    assert {line: said for line, said in answers.items() if said[9:12] != ("404" if line in missing else "200")} == {}
    own = {name: request(f"GET {path}&filters={quote(json.dumps({name: [value]}))}") for path, name, value in (
        ("/containers/json?all=1", "network", "bridge"), ("/containers/json?all=1", "volume", "data"),
        ("/containers/json?all=1", "ancestor", "mine"), ("/images/json?all=1", "reference", "mine"),
        ("/networks?a=1", "name", "bridge"))}  # fmt: skip
    assert [name for name, said in send(gateway, own).items() if '"Id":' not in said] == []


def test_an_image_of_another_is_like_none_to_every_endpoint(
    gateway: GatewayHost, pairs: dict[str, list[tuple[str, str]]]
):
    bob = gateway.uid["bob"]
    before = gateway.inspect(f"ds01-{bob}/diary")
    lines = {}
    for value in pairs["image"]:
        for form in OF_IMAGES:
            first, second = (form.replace(" {}", f" /images/{each}") + f" TYPED {each}" for each in value)
            lines[first] = (first, second)
        for rest in ("{}", "mine&names={}", "{}&names=mine", "mine&names=mine&names={}"):
            first, second = (f"GET /images/get?names={rest.format(each)} TYPED {each}" for each in value)
            lines[first] = (first, second)
    assert differing(gateway, lines) == {}
    answers = send(gateway, {line: request(line.partition(" TYPED ")[0]) for line in lines})
    assert {line: said[:300] for line, said in answers.items() if said[9:12] not in {"404", "403", "400"}} == {}
    by_name = {line: said for line, said in answers.items() if line.endswith(f"TYPED {pairs['image'][2][0]}")}
    assert {line: said for line, said in by_name.items() if said[9:12] != "404" and "/push" not in line} == {}
    assert gateway.inspect(f"ds01-{bob}/diary") == before
    # What is in the path counts, and not what stands behind it.
    (said,) = send(gateway, {"": request(f"GET /images/mine/get?names=ds01-{bob}/diary")}).values()
    assert said.startswith("HTTP/1.1 200 ")
    assert ("of-alice" in said, SECRET in said) == (True, False)


TOLD = {
    "Architecture", "CPUSet", "CPUShares", "CgroupDriver", "CgroupVersion", "Containers", "ContainersPaused",
    "ContainersRunning", "ContainersStopped", "CpuCfsPeriod", "CpuCfsQuota", "Debug", "DefaultRuntime", "Driver",
    "ExperimentalBuild", "ID", "IPv4Forwarding", "Images", "IndexServerAddress", "InitBinary", "Isolation",
    "KernelVersion", "LoggingDriver", "MemTotal", "MemoryLimit", "NCPU", "Name", "OSType", "OSVersion",
    "OperatingSystem", "PidsLimit", "Plugins", "RegistryConfig", "Runtimes", "SecurityOptions", "ServerVersion",
    "SwapLimit", "Swarm", "SystemTime", "Warnings",
}  # fmt: skip
"""All that people are told; whatever else engines say, or will say, is the administrator's."""
CONFIGURED = {"labels": ["place=rack-of-secrets"], "insecure-registries": ["registry-of-secrets:5000"], "debug": True}


def info(gateway: GatewayHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.host.sh("curl -s --unix-socket /run/docker.sock http://x/info"))
    return found


def test_info_says_only_what_clients_need(gateway: GatewayHost, victim: str):
    del victim
    settings = gateway.host.sh("cat /etc/docker/daemon.json")
    reload = "systemctl kill -s HUP docker"
    gateway.host.write("/etc/docker/daemon.json", json.dumps(json.loads(settings) | CONFIGURED))
    try:
        gateway.host.sh(reload)
        assert until(lambda: "rack-of-secrets" in str(info(gateway)) and info(gateway)["Debug"])
        engine = info(gateway)
        (said,) = send(gateway, {"": request("GET /info")}).values()
    finally:
        # Of what its file says nothing the engine keeps what it had.
        empty = {name: type(value)() for name, value in CONFIGURED.items()}
        gateway.host.write("/etc/docker/daemon.json", json.dumps(json.loads(settings) | empty))
        gateway.host.sh(reload)
        assert until(lambda: "of-secrets" not in str(info(gateway)))
        gateway.host.write("/etc/docker/daemon.json", settings)
    told = json.loads(said.partition("\r\n\r\n")[2])
    assert set(told) <= TOLD
    assert "registry-of-secrets" in str(engine["RegistryConfig"])
    assert "of-secrets" not in said
    assert (engine["Containers"], told["Containers"], told["ContainersRunning"]) == (1, 0, 0)
    assert (told["RegistryConfig"], told["Swarm"]) == ({}, {"LocalNodeState": "inactive"})
    assert (told["Debug"], told["ExperimentalBuild"], told["Warnings"]) == (False, False, None)
    assert told["Plugins"] == {
        "Volume": ["local"], "Network": ["bridge", "none"], "Authorization": None, "Log": ["local"],
    }  # fmt: skip
    assert set(engine["Plugins"]["Network"]) > {"bridge", "host"}
