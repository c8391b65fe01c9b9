"""Layouts are changed on a simulated server that has the driver's rules; what it has itself is what counts."""

from __future__ import annotations

import ctypes
import os
import signal

import pytest
import yaml

from ds01.gpu.nvml import NvmlError, Session
from ds01.mig import apply, cdi, saved
from ds01.mig.card import Card
from ds01.mig.model import Holder, Placed, Verdict
from ds01.mig.observe import NoLeases
from ds01.problems import RefusedError
from lab.nvmlsim.control import Kind

FOUR = ["A100-80"] * 4


def test_free_instances_change_and_the_rest_is_not_touched(make_host):
    host = make_host(FOUR[:2], {0: [("3g.40gb", 4), ("2g.20gb", 0), ("2g.20gb", 2)], 1: [("1g.10gb", 6)]})
    before, untouched = host.uuids(0), host.uuids(1)
    outcome = host.apply({"0": ["3g.40gb", "1g.10gb", "1g.10gb", "2g.20gb"]})
    assert host.layout(0) == ["1g.10gb@2", "1g.10gb@3", "2g.20gb@0", "3g.40gb@4"]
    after = host.uuids(0)
    kept = {uuid for uuid, what in before.items() if what != "2g.20gb@2"}
    assert kept <= after.keys()
    assert host.uuids(1) == untouched
    assert outcome.changed
    assert outcome.after.done
    assert outcome.gone == [uuid for uuid in before if uuid not in kept]
    assert [event["type"] for event in host.events()] == ["mig.apply"]
    assert host.events()[0]["details"]["gone"] == outcome.gone


def test_a_second_run_changes_nothing(make_host):
    host = make_host(FOUR)
    layout = {"0": ["2g.20gb"] * 3 + ["1g.10gb"], "1": ["7g.80gb"], "2": []}
    assert host.apply(layout).changed
    assert [host.layout(gpu) for gpu in range(4)] == [
        ["1g.10gb@6", "2g.20gb@0", "2g.20gb@2", "2g.20gb@4"],
        ["7g.80gb@0"],
        "whole",
        "whole",
    ]
    before, recorded = [host.uuids(gpu) for gpu in range(4)], len(host.events())
    again = host.apply(layout)
    assert not again.changed
    assert (again.moved, again.gone, again.failures) == ({}, [], {})
    assert [host.uuids(gpu) for gpu in range(4)] == before
    assert len(host.events()) == recorded


def test_what_is_in_use_waits_and_is_named_and_other_gpus_go_on(make_host):
    host = make_host(FOUR[:2], {0: ["3g.40gb", "3g.40gb"], 1: ["3g.40gb", "3g.40gb"]})
    process = host.use("0:0")
    before = host.uuids(0)
    outcome = host.apply("1g.10gb")
    assert host.uuids(0) == before
    assert host.layout(1) == [f"1g.10gb@{start}" for start in range(7)]
    [waiting] = outcome.after.having(Verdict.WAITS)
    [holder] = [holder for item in waiting.blockers for holder in item.holders]
    assert f"process {process.pid} (sleep infinity)" in str(holder)
    assert str(process.pid) in waiting.reason
    # Once it is done, the same wish is fulfilled.
    host.stop()
    assert host.apply("1g.10gb").after.done
    assert len(host.layout(0)) == 7


def test_a_mixed_gpu_changes_around_what_is_in_use(make_host):
    host = make_host(FOUR[:1], {0: [("2g.20gb", 4), ("2g.20gb", 0), ("1g.10gb", 6)]})
    [used] = [uuid for uuid, what in host.uuids(0).items() if what == "2g.20gb@4"]
    host.use(used)
    outcome = host.apply({"0": ["1g.10gb"] * 5 + ["2g.20gb"]})
    assert host.layout(0) == [*(f"1g.10gb@{start}" for start in (0, 1, 2, 3, 6)), "2g.20gb@4"]
    assert host.uuids(0)[used] == "2g.20gb@4"
    assert outcome.after.done


class _Leases(NoLeases):
    """Leases that are there from the beginning."""

    def __init__(self, found: dict[str, list[Holder]]) -> None:
        self._found = found

    def holders(self) -> dict[str, list[Holder]]:
        return self._found


def test_a_promised_device_counts_as_used(make_host):
    host = make_host(FOUR[:1], {0: ["3g.40gb", "3g.40gb"]})
    promised = next(iter(host.uuids(0)))
    before = host.uuids(0)
    outcome = host.apply("1g.10gb", leases=_Leases({promised: [Holder("bob", "lease of container training")]}))
    assert host.uuids(0) == before
    assert "bob: lease of container training" in outcome.after.gpus[0].reason


class _Meddling(Session):
    """A session in which something else happens just before one call."""

    def __init__(self, function: str, meddle) -> None:
        super().__init__()
        self._meddle = {function: meddle}

    def call(self, function, *arguments: object):
        self._meddle.pop(function, lambda: None)()
        return super().call(function, *arguments)


def test_somebody_who_comes_meanwhile_finds_the_gpu_as_it_was(make_host):
    host = make_host(FOUR[:1], {0: [("3g.40gb", 0), ("3g.40gb", 4)]})
    [late] = [uuid for uuid, what in host.uuids(0).items() if what == "3g.40gb@0"]
    # The other one is destroyed first, and has to be put back.
    with _Meddling("nvmlGpuInstanceDestroy", lambda: host.use(late)) as session:
        outcome = apply.change(session, host.ask("1g.10gb"))
    assert host.layout(0) == ["3g.40gb@0", "3g.40gb@4"]
    assert host.uuids(0)[late] == "3g.40gb@0"
    assert "began to use" in outcome.failures["GPU 0"]
    # What is there and used now is what comes back after a reboot.
    places = {Placed(int(what[-1]), what[:-2]): uuid for uuid, what in host.uuids(0).items()}
    assert list(saved.load().values()) == [saved.Layout(mig=True, instances=places)]


def test_an_impossible_layout_or_a_missing_gpu_changes_nothing_anywhere(make_host):
    host = make_host(FOUR[:2], {1: ["7g.80gb"]})
    state = host.server.state()
    for layout in ({"0": ["4g.40gb", "4g.40gb"], "1": []}, {"9": [], "1": []}):
        with pytest.raises(RefusedError) as error:
            host.apply(layout)
        assert error.value.problems[0].fix
    assert host.server.state()["gpus"][1]["instances"] == state["gpus"][1]["instances"]
    assert host.layout(0) == "whole"
    assert saved.load() == {}
    assert [(event["type"], event["decision"]) for event in host.events()] == [("mig.plan", "refused")] * 2


@pytest.mark.parametrize("model", ["A100-80", "H100-80"])
def test_a_reboot_brings_everything_back_at_its_place(make_host, model):
    host = make_host([model] * 3, {2: ["1g.10gb"]})
    layout = {"0": ["1g.10gb", "3g.40gb@4", "2g.20gb@0"], "1": ["7g.80gb"], "2": []}
    host.apply(layout)
    before = [host.uuids(gpu) for gpu in range(3)]
    host.server.reboot()
    assert host.uuids(0) == {}
    outcome = host.apply_saved()
    after = [host.uuids(gpu) for gpu in range(3)]
    assert [sorted(gpu.values()) for gpu in after] == [sorted(gpu.values()) for gpu in before]
    # Each old device is followed by the one at its place.
    for old, new in zip(before, after, strict=True):
        places = {what: uuid for uuid, what in new.items()}
        assert {uuid: outcome.moved.get(uuid, uuid) for uuid in old} == {uuid: places[old[uuid]] for uuid in old}
    assert outcome.gone == []
    assert not host.apply(layout).changed


def test_a_mode_that_cannot_change_now_comes_with_the_reboot(make_host):
    host = make_host(FOUR[:2], {1: ["7g.80gb"]})
    host.use("0", kind=Kind.HOLDER)
    outcome = host.apply({"0": ["3g.40gb", "3g.40gb"], "1": ["7g.80gb"]})
    [waiting] = outcome.after.having(Verdict.RESET)
    assert waiting.state.name == "GPU 0"
    assert "reboot" in waiting.fix
    assert host.server.state()["gpus"][0]["mig_pending"]
    assert host.layout(0) == "whole"
    host.server.reboot()
    assert host.apply_saved().after.done
    assert host.layout(0) == ["3g.40gb@0", "3g.40gb@4"]


def test_what_is_in_use_on_the_whole_gpu_keeps_its_mode(make_host):
    host = make_host(FOUR[:1])
    process = host.use("0")
    outcome = host.apply("1g.10gb")
    assert host.layout(0) == "whole"
    assert not host.server.state()["gpus"][0]["mig_pending"]
    assert [holder.what for holder in outcome.after.gpus[0].holders] == [f"process {process.pid} (sleep infinity)"]


def test_an_unfinished_instance_is_completed_or_removed(make_host):
    host = make_host(FOUR[:1], {0: []})
    with Session() as session:
        gpu = session.call("nvmlDeviceGetHandleByIndex", 0)
        for profile, start, size in ((9, 4, 4), (14, 0, 2)):
            place = session.api.c_nvmlGpuInstancePlacement_t(start, size)
            session.call("nvmlDeviceCreateGpuInstanceWithPlacement", gpu, profile, ctypes.byref(place))
    outcome = host.apply({"0": ["3g.40gb", "1g.10gb@0"]})
    assert host.layout(0) == ["1g.10gb@0", "3g.40gb@4"]
    [plan] = outcome.plan.gpus
    assert [str(item.placed) for item in plan.complete] == ["3g.40gb@4"]
    assert [str(item.placed) for item in plan.destroy] == ["2g.20gb@0"]


def test_a_lost_gpu_is_left_alone_and_named_and_keeps_its_saved_layout(make_host):
    host = make_host(FOUR[:2])
    host.apply({"0": ["7g.80gb"], "1": ["7g.80gb"]})
    uuid = host.server.state()["gpus"][0]["uuid"]
    host.server.fault(0, "lost", 1)
    for layout in ("1g.10gb", {"0": [], "1": ["3g.40gb"]}, {uuid: [], "1": ["1g.10gb"]}):
        outcome = host.apply(layout)
        assert len(outcome.failures) == 1
        assert "GPU 0" in str(outcome.failures)
        assert saved.load()[uuid].mig
    assert [what.partition("@")[0] for what in host.layout(1)] == ["1g.10gb"]


@pytest.mark.parametrize("named_by", ["index", "uuid"])
def test_a_gpu_that_is_lost_during_its_change_is_named_and_the_others_are_changed(make_host, named_by):
    host = make_host(FOUR[:2])
    uuid = host.server.state()["gpus"][0]["uuid"]
    layout = {"0" if named_by == "index" else uuid: ["3g.40gb", "3g.40gb"], "1": ["7g.80gb"]}
    with _Meddling("nvmlDeviceCreateGpuInstanceWithPlacement", lambda: host.server.fault(0, "lost", 1)) as session:
        outcome = apply.change(session, host.ask(layout))
    assert "GPU 0" in str(outcome.failures)
    assert host.layout(1) == ["7g.80gb@0"]
    # What was wanted of it is not forgotten.
    assert len(saved.load()[uuid].instances) == 2


def test_the_specification_names_every_device_or_nothing_is_done(make_host, tmp_path):
    host = make_host(FOUR[:2])
    host.apply({"0": ["3g.40gb", "3g.40gb"]})
    names = {device["name"] for device in yaml.safe_load(cdi.SPEC.read_text())["devices"]}
    assert names >= {"0:0", "0:1", "1", *host.uuids(0), host.server.state()["gpus"][1]["uuid"]}
    old = cdi.SPEC.read_text()
    (tmp_path / "bin" / "nvidia-ctk").write_text(
        '#!/bin/sh\necho \'{"kind": "nvidia.com/gpu", "devices": []}\' > "${3#*=}"\n'
    )
    outcome = host.apply({"0": ["1g.10gb"]})
    assert all(uuid in outcome.failures["CDI"] for uuid in host.uuids(0))
    assert cdi.SPEC.read_text() == old


def test_one_change_at_a_time(make_host, monkeypatch):
    host = make_host(FOUR[:1])
    monkeypatch.setattr(saved, "_WAIT_S", 0.1)
    with saved.alone(), pytest.raises(saved.ReportedError, match="held by another"):
        host.apply("1g.10gb")
    assert host.layout(0) == "whole"


_STEPS = {
    "nvmlDeviceSetMigMode",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
}


class _Counting(Session):
    """A session that counts its calls, and those of them that change something; its process may be killed at one."""

    def __init__(self, *, call: int = 0, step: int = 0, done: bool = False) -> None:
        super().__init__()
        self._kill_at = (call, step)
        self._done = done
        self.calls = 0
        self.steps = 0

    def call(self, function, *arguments: object):
        self.calls += 1
        self.steps += function in _STEPS
        now = self.calls == self._kill_at[0] or (function in _STEPS and self.steps == self._kill_at[1])
        if now and not self._done:
            os.kill(os.getpid(), signal.SIGKILL)
        result = super().call(function, *arguments)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def _run_killed(host, layout, **where: int) -> None:
    """Apply in a process that is killed: at a call, or before or after a step."""
    child = os.fork()
    if child == 0:
        try:
            with _Counting(**where) as session:
                apply.change(session, host.ask(layout))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it ended before {where}"
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_a_change_that_is_killed_at_any_call_is_completed_by_the_next_run(make_host, monkeypatch, tmp_path):
    # That the specification is right has its own test; 50 of them would take long.
    monkeypatch.setattr(cdi, "refresh", lambda _states: False)
    start = {0: [("3g.40gb", 4), ("2g.20gb", 0), ("2g.20gb", 2)], 1: ["7g.80gb"]}
    layout = {"0": ["3g.40gb", "2g.20gb@0", "1g.10gb@2", "1g.10gb@3"], "1": [], "2": ["4g.40gb", "3g.40gb"]}
    host = make_host(FOUR[:3], start)
    with _Counting() as session:
        apply.change(session, host.ask(layout))
    # GPU 0: one goes, two come. GPU 1: one goes, mode off. GPU 2: mode on, two come. Each instance takes two steps.
    assert session.steps == 14
    points = [{"step": step, "done": done} for step in range(1, session.steps + 1) for done in (False, True)]
    points += [{"call": call} for call in range(1, session.calls, session.calls // 20)]
    for number, where in enumerate(points):
        monkeypatch.setattr(saved, "DIRECTORY", tmp_path / f"kill-{number}")
        host = make_host(FOUR[:3], start)
        kept = {uuid: what for uuid, what in host.uuids(0).items() if what != "2g.20gb@2"}
        _run_killed(host, layout, **where)
        # What was cut off is finished by whoever comes first: the boot unit, or the next run.
        by_boot = number % 2 and saved.load()
        outcome = host.apply_saved() if by_boot else host.apply(layout)
        assert outcome.failures == {}, where
        assert host.layout(0) == ["1g.10gb@2", "1g.10gb@3", "2g.20gb@0", "3g.40gb@4"], where
        assert host.layout(1) == "whole", where
        assert host.layout(2) == ["3g.40gb@4", "4g.40gb@0"], where
        assert kept.items() <= host.uuids(0).items(), where
        assert not host.apply(layout).changed, where


def test_a_device_that_a_killed_run_rebuilt_is_still_followed(make_host, monkeypatch):
    monkeypatch.setattr(cdi, "refresh", lambda _states: False)
    host = make_host(FOUR[:1])
    layout = {"0": ["3g.40gb", "2g.20gb"]}
    host.apply(layout)
    before = host.uuids(0)
    host.server.reboot()
    # Killed when everything is made, and nothing of it is noted yet.
    _run_killed(host, layout, step=4, done=True)
    outcome = host.apply_saved()
    places = {what: uuid for uuid, what in host.uuids(0).items()}
    assert {old: outcome.moved.get(old, old) for old in before} == {old: places[what] for old, what in before.items()}


def test_a_profile_that_the_driver_does_not_have_after_all_is_named(make_host):
    make_host(FOUR[:1], {0: []})
    with Session() as session:
        card = Card(session, session.call("nvmlDeviceGetUUID", session.call("nvmlDeviceGetHandleByIndex", 0)))
        with pytest.raises(NvmlError, match=r"no 1g\.12gb, but 1g\.10gb"):
            card.create(Placed(0, "1g.12gb"))


def test_whatever_the_toolkit_says_is_a_message(make_host, tmp_path):
    host = make_host(FOUR[:1], {0: ["7g.80gb"]})
    (tmp_path / "bin" / "nvidia-ctk").write_text("#!/bin/sh\nprintf 'broken \\377\\n' >&2\nexit 3\n")
    assert "broken" in host.apply({"0": ["7g.80gb"]}).failures["CDI"]


def test_the_tool_is_not_one_of_the_callers_path(make_host, tmp_path, monkeypatch):
    host = make_host(FOUR[:1], {0: ["7g.80gb"]})
    theirs = tmp_path / "theirs" / "nvidia-ctk"
    theirs.parent.mkdir()
    theirs.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    theirs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{theirs.parent}{os.pathsep}{os.environ['PATH']}")
    assert host.apply({"0": ["7g.80gb"]}).failures == {}
    assert not (tmp_path / "ran").exists()
