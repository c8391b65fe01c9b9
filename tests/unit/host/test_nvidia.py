"""The container toolkit: known escapes by name, and a configuration that is edited and not rewritten."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01.host import nvidia
from ds01.host.gpus import Survey, findings
from ds01.host.nvml import Card
from ds01.problems import ApplyError

DEFAULT = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
disable-require = false
supported-driver-capabilities = "compat32,compute"

[nvidia-container-cli]
# the environment
environment = []
load-kmods = true

[nvidia-container-runtime]
mode = "auto"
"""


@pytest.mark.parametrize(
    ("version", "escapes"),
    [
        ("1.16.1", {"CVE-2024-0132", "CVE-2025-23359", "CVE-2025-23266", "CVE-2025-23267"}),
        ("1.16.2", {"CVE-2025-23359", "CVE-2025-23266", "CVE-2025-23267"}),
        ("1.17.4", {"CVE-2025-23266", "CVE-2025-23267"}),
        ("1.17.7", {"CVE-2025-23266", "CVE-2025-23267"}),
        ("1.17.8-rc.1", {"CVE-2025-23266", "CVE-2025-23267"}),
        ("1.17.8", set()),
        ("1.17.8-1", set()),
        ("1.20.0", set()),
        ("1.9.0", {"CVE-2024-0132", "CVE-2025-23359", "CVE-2025-23266", "CVE-2025-23267"}),
    ],
)
def test_escapes(version, escapes):
    assert set(nvidia.escapes_of(version)) == escapes


def test_the_rest_of_the_file_stays():
    after = nvidia.closed(DEFAULT)
    data = tomllib.loads(after)
    assert data == tomllib.loads(DEFAULT) | dict.fromkeys(nvidia.CLOSED, False)
    assert [line for line in after.splitlines() if line not in DEFAULT.splitlines()] == [
        "accept-nvidia-visible-devices-as-volume-mounts = false",
        "accept-nvidia-visible-devices-envvar-when-unprivileged = false",
    ]
    assert len(after.splitlines()) == len(DEFAULT.splitlines())
    assert nvidia.closed(after) == after


_LINES = st.lists(
    st.sampled_from(
        [
            "# a comment",
            "",
            'x = "y"',
            "n = 1",
            *(f"{key} = true" for key in nvidia.CLOSED),
            *(f"  #  {key} = true" for key in nvidia.CLOSED),
        ]
    ),
    unique=True,
)


@given(_LINES, _LINES, st.booleans())
def test_any_file_keeps_its_meaning(top, section, newline):
    text = "\n".join([*top, "[section]", *section]) + ("\n" if newline else "")
    before = tomllib.loads(text)
    assert tomllib.loads(nvidia.closed(text)) == before | dict.fromkeys(nvidia.CLOSED, False)


@pytest.mark.parametrize("text", ["x = ", 'x = """\n#accept-nvidia-visible-devices-as-volume-mounts = 1\n"""\n'])
def test_what_cannot_be_edited_safely_is_refused(text):
    with pytest.raises(ApplyError, match=r"config\.toml"):
        nvidia.closed(text)


@pytest.mark.parametrize("before", [DEFAULT, None])
def test_closing_is_undone_exactly(tmp_path, monkeypatch, before):
    config = tmp_path / "etc" / "config.toml"
    monkeypatch.setattr(nvidia, "CONFIG", config)
    monkeypatch.setattr(nvidia, "BEFORE", tmp_path / "state" / "before")
    if before is not None:
        config.parent.mkdir()
        config.write_text(before)
    nvidia.close()
    nvidia.close()
    assert all(tomllib.loads(config.read_text())[key] is False for key in nvidia.CLOSED)
    assert nvidia.reopen()
    assert (config.read_text() if config.exists() else None) == before
    assert not nvidia.reopen()


@pytest.mark.parametrize("changed", [b"other = 1\n", b"broken = ", b"# caf\xe9\n"])
def test_what_somebody_else_changed_since_stays(tmp_path, monkeypatch, changed):
    config = tmp_path / "config.toml"
    monkeypatch.setattr(nvidia, "CONFIG", config)
    monkeypatch.setattr(nvidia, "BEFORE", tmp_path / "state" / "before")
    config.write_text(DEFAULT)
    nvidia.close()
    config.write_bytes(config.read_bytes() + changed)
    assert nvidia.current()
    assert nvidia.kept() is None
    assert nvidia.reopen()
    assert config.read_bytes().endswith(changed)


def card(number: int, name: str = "NVIDIA A100-SXM4-80GB", memory: int = 81920 << 20, *, mig: bool = True) -> Card:
    return Card(number, f"GPU-{number}", name, f"0000:{number:02x}:00.0", memory, mig)


def survey(*cards: Card, driver: str = "550.90.07", toolkit: str = "1.17.8") -> Survey:
    return Survey(present=True, driver=driver, toolkit=toolkit, cards=cards)


NONE = Survey(present=False, driver="", toolkit="", cards=())


def allocation(layout=None, profile: str | None = None) -> dict:
    layout = {
        gpu: [{"profile": text.partition("@")[0], "start": None} for text in texts]
        for gpu, texts in (layout or {}).items()
    }
    return {"enable_mig": True, "mig_profile": profile, "mig_layout": layout}


@pytest.mark.parametrize(
    ("found", "wanted", "names"),
    [
        (survey(card(0)), allocation({"0": ["2g.20gb"]}), []),
        (survey(card(0)), allocation({"0": ["2g.10gb"]}), ["mig"]),
        (survey(card(0)), allocation({"1": ["2g.20gb"]}), ["mig"]),
        (survey(card(0), card(1, "NVIDIA A100-SXM4-40GB", 40960 << 20)), allocation(profile="2g.20gb"), ["mig"]),
        (survey(card(0), card(1, "Tesla T4", 15 << 30, mig=False)), allocation(profile="2g.20gb"), []),
        (survey(card(0, "Tesla T4", 15 << 30, mig=False)), allocation({"0": ["1g.5gb"]}), ["mig"]),
        (survey(card(0, "Tesla T4", 15 << 30, mig=False)), allocation({"0": []}), []),
        (survey(card(0, "NVIDIA A30", 24 << 30)), allocation({"0": ["1g.6gb"]}), []),
        (survey(card(0), toolkit=""), allocation(), ["toolkit"]),
        (survey(card(0), toolkit="1.16.1"), allocation(), ["toolkit"]),
        (survey(card(0, "NVIDIA H200", 143771 << 20), driver="535.1"), allocation(), ["driver"]),
        (survey(), allocation(), ["no-driver"]),
        (NONE, allocation({"0": ["2g.20gb"]}), ["no-gpu"]),
        (NONE, allocation(profile="2g.20gb"), []),
    ],
)
def test_what_a_host_lacks_is_found_before_it_is_touched(found, wanted, names):
    assert [finding.id for finding in findings(found, wanted)] == names


def test_an_escape_is_named():
    [finding] = findings(survey(card(0), toolkit="1.17.7"), allocation())
    assert "CVE-2025-23266" in str(finding)
    assert "1.17.8 or newer" in str(finding)
