"""The host image's name follows its recipe."""

import shutil

from lab import image
from lab.process import ROOT

_RECIPE = ROOT / "lab" / "host_image"


def test_any_change_of_the_recipe_gives_another_name(tmp_path, monkeypatch):
    names = {image.tag()}
    parts = ("packages", "customize", "customize-container", "init-lab")
    for part in parts:
        changed = tmp_path / part
        shutil.copytree(_RECIPE, changed)
        (changed / part).write_text((changed / part).read_text() + "# more\n")
        monkeypatch.setattr(image, "PARTS", changed)
        names.add(image.tag())
    assert len(names) == 1 + len(parts)


def test_the_name_is_the_same_twice():
    assert image.tag() == image.tag()


def test_comments_are_no_packages():
    found = image.contents()
    assert "docker.io" in found
    assert "libpam-systemd" in found
    assert not any("#" in name or " " in name for name in found)
