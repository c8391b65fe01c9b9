"""Keep in an image what was installed in a container."""

from __future__ import annotations

from typing import Final

from ds01.cli.container.inside import told
from ds01.cli.image import dockerfile, place
from ds01.cli.image.update import added

_ASK: Final = ("python3", "-m", "pip", "list", "--user", "--format=freeze", "--disable-pip-version-check")


def installed(container: str) -> list[str] | None:
    """Return what pip installed for its user in a running container, as `name==version`; None where nobody can say."""
    done = told(container, *_ASK)
    return done.stdout.split() if done is not None and done.returncode == 0 else None


def into(image: str, packages: list[str]) -> int:
    """Add packages to the image that a container was made from. Returns the exit code. Raises NoDockerfileError."""
    name = place.checked(image)
    return added(name, place.directory_of(name, None), dockerfile.checked(packages), [])
