"""Compose through the gateway and at the engine itself: people see the same, whatever they use of it."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest

from tests.integration.gateway.gateway_host import GatewayHost

IMAGE = "ds01-lab/base"
PLACE = "/srv/people/alice/lab"
SLEEP = {"image": IMAGE, "command": ["sleep", "999"], "stop_signal": "KILL"}
PROJECT: dict[str, Any] = {
    "x-common": {"a": "b"},
    "services": {
        "db": SLEEP | {
            "healthcheck": {"test": ["CMD", "test", "-e", "/data"], "interval": "1s", "retries": 100},
            "volumes": ["data:/data"], "environment": {"A": "one", "EMPTY": ""}, "labels": {"tier": "back"},
            "networks": {"back": {"aliases": ["store"]}}, "container_name": "the-db",
        },
        "web": SLEEP | {
            "depends_on": {"db": {"condition": "service_healthy"}},
            "volumes": [
                "./src:/src:ro",
                {"type": "volume", "source": "data", "target": "/data", "volume": {"nocopy": True}},
                {"type": "tmpfs", "target": "/fast", "tmpfs": {"size": 1 << 20}},
                "/anonymous",
            ],
            "tmpfs": ["/run:size=1m"], "configs": ["app"], "secrets": [{"source": "key", "target": "the_key"}],
            "env_file": ["web.env"], "environment": ["FROM_SHELL", "B=${WORD:-none}"],
            "networks": ["front", "back"], "links": ["db:database"], "extra_hosts": ["far:10.1.2.3"],
            "ports": ["127.0.0.1::80"], "expose": ["81"], "hostname": "the-host", "domainname": "example.org",
            "working_dir": "/src", "user": "1000:1000", "init": True, "read_only": True, "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"], "ulimits": {"nofile": {"soft": 100, "hard": 200}},
            "shm_size": "8m", "mem_limit": "64m", "cpus": 0.5, "pids_limit": 50, "stop_grace_period": "1s",
            "dns_search": "example.org", "sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"},
            "tty": True, "stdin_open": True, "logging": {"options": {"max-size": "1m"}},
        },
        "side": SLEEP | {"network_mode": "service:db", "depends_on": ["db"], "ipc": "service:db", "pid": "service:db"},
        "many": SLEEP | {"deploy": {"replicas": 2, "resources": {"limits": {"memory": "32m"}}}, "networks": ["front"]},
        "talk": {"image": IMAGE, "command": "sh -c 'echo first; echo second >&2'", "restart": "no"},
        "once": {"image": IMAGE, "entrypoint": ["echo", "said"], "command": ["this"], "profiles": ["job"]},
        "made": SLEEP | {"build": {"context": ".", "args": {"WORD": "built"}, "target": "last"}, "profiles": ["made"]},
    },
    "volumes": {"data": {"labels": {"kept": "yes"}}},
    "networks": {"front": {}, "back": {"internal": True, "labels": {"l": "1"}}},
    "configs": {"app": {"content": "of the project\n"}},
    "secrets": {"key": {"file": "./key"}},
}  # fmt: skip
FILES = {
    "compose.yaml": json.dumps(PROJECT),
    "compose.more.yaml": json.dumps({"services": {"talk": {"command": "echo more"}}}),
    "web.env": "IN_FILE=yes\n",
    ".env": "WORD=typed\n",
    "key": "secret\n",
    "src/page": "page\n",
    "Dockerfile": f"FROM {IMAGE} AS first\nARG WORD\nRUN echo $WORD >/word\nFROM first AS last\nCOPY src/page /page\n",
}
INSIDE = (
    "hostname; pwd; id -u; id -G; cat /app /run/secrets/the_key /src/page; echo $FROM_SHELL $B $IN_FILE; ulimit -n;"
    "ls -d /anonymous /fast; touch /x; grep -c . /proc/net/dev; getent hosts far; df -k /fast /dev/shm|grep -c tmpfs"
)
STEPS = """
config --services
config --images
config --hash web
config --volumes
up -d --wait db
up -d --quiet-pull
docker wait lab-talk-1
ps --format '{{.Name}} {{.Service}} {{.State}} {{.Health}}'
docker ps -a --filter label=com.docker.compose.project=lab --format '{{.Names}}'
docker volume ls --filter label=com.docker.compose.project --format '{{.Name}}'
docker network ls --filter label=com.docker.compose.network --format '{{.Name}} {{.Driver}} {{.Internal}}'
docker inspect the-db --format '{{json .Config.Healthcheck}} {{.Name}}'
docker image inspect IMAGE --format '{{json .Config.Cmd}}'
ps -q web
ps -a --format '{{.Name}} {{.ExitCode}} {{.Image}} {{.Command}}'
ps --services --filter status=running
exec -T web sh -c 'INSIDE'
exec -T -e X=1 -w /src -u 0 web sh -c 'echo $X; pwd; id -u'
exec -T side hostname
exec -T db sh -c 'cat /proc/1/cmdline; env|grep -e ^A= -e EMPTY'
exec -T --index 2 many true
exec -T nobody true
exec -T web ping -c1 -W9 database
exec -T web nslookup -type=a store
exec -T many nslookup -type=a web
logs --no-color talk
logs --no-log-prefix talk
logs --tail 1 talk
top side
port web 80
port web 99
images talk
cp web:/src/page -
cp key db:/tmp/copied
exec -T db cat /tmp/copied
run --rm once
run --rm -T once other words
run --rm --no-deps -T -e Y=2 --entrypoint sh talk -c 'echo $Y; exit 3'
run -d --name by-name talk
docker wait by-name
pause many
ps many --format '{{.State}}'
unpause many
stop -t 1 many
ps -a many --format '{{.State}}'
start many
restart -t 0 db
kill -s KILL side
rm -f side
up -d --scale many=3 --no-recreate
ps -q many
up -d --force-recreate --no-deps web
create --no-recreate
-f compose.yaml -f compose.more.yaml up talk
--profile job up once
--profile made build made >/dev/null
--profile made up -d made
--profile made exec -T made cat /word /page
--profile made images made
-p other up -d many
ls -a
-p other down -v
ls -q
volumes --format '{{.Name}}'
stats --no-stream --format '{{.Name}}'
up -d nobody
up -d web --no-such-flag
down --remove-orphans -t 0 --rmi local
ps -aq
volumes -q
up -d talk
down -v -t 0
ls -a
"""
# What differs between two runs at the same engine as well.
CHANGES = (
    (r"\x1b\[[0-9;?]*[A-Za-z]", ""),
    # What it is at, as often as it looks.
    (r"(?m)^ (Container|Network|Volume|Image) .*$", ""),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)", "TIME"),
    (r"\b\d+(\.\d+)?(ms|s|kB|KB|MB|MiB)\b", "AMOUNT"),
    (r"\b(\d+|About an?|Less than an?) (seconds?|minutes?)( ago)?\b", "WHILE"),
    (r"\b(127|172|192|10)\.\d+\.\d+\.\d+(:\d+)?\b", "ADDRESS"),
    (r"(?<=ADDRESS)[:#]\d+", ""),
    (r"(?m)^.* +\d+ +\d+ +.*sleep 999$", "PROCESS"),
    (r"time=\d+\.\d+|round-trip.*|ttl=\d+", ""),
)


def told(said: str) -> list[list[str]]:
    """The answers, step by step: lines that several services write at a time are in no order."""
    for pattern, instead in CHANGES:
        said = re.sub(pattern, instead, said)
    steps = [step.splitlines() for step in said.split("\n== ")[1:]]
    return [[asked, *sorted(" ".join(line.split()) for line in answer if line)] for asked, *answer in steps]


@pytest.fixture
def project(gateway: GatewayHost) -> str:
    """The script that does all of it in one project, for a shell."""
    gateway.host.sh(f"install -d -o alice -g alice {PLACE} {PLACE}/src")
    for name, text in FILES.items():
        gateway.run("alice", "sh", "-c", f"cat >{PLACE}/{name}", stdin=text.encode())
    steps = STEPS.replace("INSIDE", INSIDE).replace("IMAGE", IMAGE).strip().splitlines()
    commands = [step if step.startswith("docker ") else f"docker compose {step}" for step in steps]
    lines = [f"echo; echo == {shlex.quote(command)}; {command} </dev/null; echo code $?" for command in commands]
    return f"export FROM_SHELL=shell; cd {PLACE}; exec 2>&1\n" + "\n".join(lines)


def test_every_command_says_and_does_the_same(gateway: GatewayHost, project: str):
    ours = told(gateway.sh("alice", project))
    gateway.host.sh(
        "set +e; docker rm -fv $(docker ps -aq); docker volume prune -af; docker network prune -f", check=False
    )
    direct = ["env", "DOCKER_HOST=unix:///run/docker.sock", "DOCKER_BUILDKIT=0", "sh", "-c", project]
    theirs = told(gateway.host.run(*direct, check=False).stdout)
    assert len(ours) == len(theirs) > 60
    different = [(mine, other) for mine, other in zip(ours, theirs, strict=True) if mine != other]
    assert different == []
