"""What people's commands need on a host behind the gateway: the commands themselves, and an image with a shell."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import click

from ds01.host.names import THIN
from lab import terminal
from tests.integration.gateway.gateway_host import CODE, GatewayHost

SHELL = "ds01-lab/shell"
HOME = "/srv/people/alice"
AD = "h.baker@example.org"
LAUNCHER = f"""#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "{CODE}")
from ds01.cli.entry import main
main()
"""
# An image as people use them: bash, and somebody in it who has the number of a person of this server.
IMAGE = f"""
rm -rf /root/shell; mkdir -p /root/shell/etc /root/shell/tmp /root/shell/proc; cd /root/shell
u=$(id -u alice) g=$(id -g alice)
printf 'root:x:0:0:root:/root:/bin/bash\\nubuntu:x:%s:%s::/home/ubuntu:/bin/sh\\n' $u $g >etc/passwd
printf 'root:x:0:\\nubuntu:x:%s:\\n' $g >etc/group
for program in bash sh sleep cat ls id env touch chmod; do
  path=$(command -v $program); mkdir -p .$(dirname $path); cp -L $path .$path
  for library in $(ldd $path | grep -o '/lib[^ ]*'); do mkdir -p .$(dirname $library); cp -Ln $library .$library; done
done
mkdir -p bin; [ -e bin/bash ] || ln -s ../usr/bin/bash bin/bash; [ -e bin/sh ] || ln -s ../usr/bin/sh bin/sh
chmod 1777 tmp
tar -c . | docker import --change 'LABEL odd="a,b"' --change 'ENTRYPOINT ["/usr/bin/false"]' - {SHELL} >/dev/null
"""


def equip(gateway: GatewayHost) -> None:
    """Put the commands and the image on the host."""
    host = gateway.host
    host.copy(Path(click.__file__).parent, f"{CODE}/")
    host.write("/usr/local/bin/ds01", LAUNCHER, 0o755)
    links = " ".join(f"/usr/local/bin/{name}" for name in THIN)
    # Others read it here, too: the gateway's test has it where only root comes.
    host.sh(f"chmod 755 /root {CODE}; for name in {links}; do ln -sf ds01 $name; done; {IMAGE}")
    # People cannot leave byte code there: each command of theirs would compile all it imports.
    host.run("python3", "-m", "compileall", "-q", CODE)
    host.sh(f"install -d -o {AD} -g $(id -g {AD}) /srv/people/{AD}")


class Terminal(terminal.Terminal):
    """A person at a terminal of the host."""

    def __init__(self, gateway: GatewayHost, user: str, *command: str) -> None:
        """Let them type at a command."""
        super().__init__("docker", "exec", "-it", gateway.host.name, *as_person(gateway, user, *command))


def as_person(gateway: GatewayHost, user: str, *command: str) -> list[str]:
    """The command that runs another one as a person at home."""
    home = f"/srv/people/{user}"
    argv = gateway.argv(user, *command)
    gid = gateway.host.sh(f"id -g {user}").strip()
    argv[argv.index(f"--regid={user}")] = f"--regid={gid}"
    at = argv.index("-i") + 1
    # What comes later counts.
    return [
        *argv[:at],
        "TERM=xterm",
        *argv[at : -len(command)],
        f"HOME={home}",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        *command,
    ]


Done = subprocess.CompletedProcess[str]


class Commands:
    """What people do there."""

    def __init__(self, gateway: GatewayHost) -> None:
        self.gateway = gateway
        self.uid = gateway.uid["alice"]

    def __call__(self, *command: str, user: str = "alice") -> Done:
        """Run a command without a terminal."""
        return self.gateway.host.run(*as_person(self.gateway, user, *command), check=False)

    def ok(self, *command: str, user: str = "alice") -> str:
        """What a command that goes well prints."""
        done = self(*command, user=user)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def json(self, *command: str) -> Any:
        """What a command says as JSON."""
        return json.loads(self.ok(*command, "--json"))

    def deploy(self, name: str = "train", image: str = SHELL, *more: str) -> dict[str, Any]:
        """Make a container that runs, and return what the engine knows of it."""
        self.ok("container-deploy", name, image, "--cpu-only", *more)
        return self.gateway.inspect(f"{name}._.{self.uid}")

    def ready(self) -> None:
        """Wait until a program in a container says that it is."""
        file = f"{HOME}/workspace/ready"
        self.gateway.host.sh(f"timeout 120 sh -c 'until [ -e {file} ]; do sleep 0.1; done'; rm {file}")

    def tags(self) -> list[str]:
        """The engine's images of alice, all names."""
        form = "{{.Repository}}:{{.Tag}}"
        depths = (f"ds01-{self.uid}/*", f"ds01-{self.uid}/*/*")
        found = "".join(self.gateway.host.sh(f"docker image ls --format '{form}' '{names}'") for names in depths)
        return sorted(found.split())

    def containers(self) -> list[str]:
        """The engine's containers."""
        return sorted(self.gateway.host.sh("docker ps -a --format '{{.Names}}'").split())
