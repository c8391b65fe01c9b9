"""Carry out a plan, so that a kill at any moment leaves something that the next run completes.

Nothing about the way is remembered: a run reads what is there and does what is missing. What is written, before the
first change, is the layout in the end; so the boot unit finishes what was cut off, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ds01 import events
from ds01.gpu.nvml import Kind, NvmlError, Session
from ds01.mig import cdi, holders, saved
from ds01.mig.card import Card
from ds01.mig.model import GpuPlan, GpuState, Instance, Plan, Verdict
from ds01.mig.observe import NOBODY, Leases, observe
from ds01.mig.planner import plan
from ds01.mig.saved import Layout, Layouts
from ds01.mig.wanted import Wanted
from ds01.problems import Problem, RefusedError, ReportedError

Ask = Callable[[Sequence[GpuState]], Wanted]
"""Gives what each GPU shall be, once it is known which there are."""


@dataclass
class Outcome:
    """What was done."""

    plan: Plan
    """What was to be done."""
    after: Plan
    """What is still to be done."""
    moved: dict[str, str] = field(default_factory=dict)
    """UUID of a device that was rebuilt at the same place -> UUID of the new one."""
    gone: list[str] = field(default_factory=list)
    """UUIDs of devices at whose place there is none of their profile now."""
    failures: dict[str, str] = field(default_factory=dict)
    """GPU by its name, or "CDI" -> what went wrong there."""
    changed: bool = False
    """Whether the GPUs, the saved layout or the CDI specification are different now."""

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "changed": self.changed,
            "plan": self.plan.as_dict(),
            "after": self.after.as_dict(),
            "moved": self.moved,
            "gone": self.gone,
            "failures": self.failures,
        }


def preview(session: Session, ask: Ask, leases: Leases = NOBODY) -> Plan:
    """Return what `change` would do now. Raises NvmlError."""
    return _plan(ask, observe(session, leases))


def predict(session: Session, ask: Ask, leases: Leases = NOBODY) -> tuple[Plan, bool]:
    """Return what `change` would do now, and whether anything would be different after it.

    Raises:
        NvmlError: There is no NVML.
        ReportedError: The saved layout is damaged, or the CDI specification cannot be made.
    """
    states = observe(session, leases)
    wanted = ask(states)
    todo = plan(states, wanted.wishes, wanted.missing)
    before = saved.load()
    changed = todo.changes or _target(todo, before, wanted, states) != before
    return todo, changed or cdi.refresh(states, dry_run=True)


def change(session: Session, ask: Ask, *, leases: Leases = NOBODY, via: str = "mig") -> Outcome:
    """Make the GPUs what is asked for, as far as nobody is in the way.

    Args:
        session: An open one.
        ask: Says what is wanted.
        leases: Who has been promised a device.
        via: Who asks, for the event.

    Raises:
        RefusedError: It is impossible on a GPU, or a GPU is not there; nothing was changed.
        NvmlError: There is no NVML.
        ApplyError: Another change is under way; nothing was changed.
        SavedError: The saved layout is damaged.
        OSError: The layout could not be saved.
    """
    with saved.alone():
        states = observe(session, leases)
        wanted = ask(states)
        todo = plan(states, wanted.wishes, wanted.missing)
        if problems := refusals(todo):
            _record("mig.plan", todo, "refused", via, reason=str(problems[0]), fix=problems[0].fix)
            raise RefusedError(problems)
        before = saved.load()
        target = _target(todo, before, wanted, states)
        changed = saved.save(target)
        failures = {
            gpu.state.name: text for gpu in todo.gpus if gpu.changes and (text := _carry_out(session, gpu, leases))
        }
        after = observe(session, leases) if todo.changes else states
        outcome = Outcome(todo, _plan(ask, after), failures=failures, changed=changed or todo.changes)
        _verify(outcome)
        outcome.moved, outcome.gone = _succession(states, after, before)
        saved.save({uuid: _present(layout, uuid, outcome, after) for uuid, layout in target.items()})
        try:
            outcome.changed |= cdi.refresh(after)
        except ReportedError as error:
            outcome.failures["CDI"] = str(error)
        if todo.changes or outcome.failures:
            reason = "; ".join(f"{name}: {text}" for name, text in outcome.failures.items()) or None
            details = {"moved": outcome.moved, "gone": outcome.gone}
            _record("mig.apply", todo, "failed" if reason else "changed", via, reason=reason, details=details)
        return outcome


def refusals(todo: Plan) -> list[Problem]:
    """Return why a plan cannot be carried out at all."""
    there = "`ds01 gpu list` shows which there are"
    missing = () if todo.unreadable else todo.missing
    return [
        *(Problem("the wanted layout", name, "a GPU of this host", there) for name in missing),
        *(
            Problem(f"{gpu.state.name} ({gpu.state.model})", _slots(gpu), gpu.reason, gpu.fix)
            for gpu in todo.having(Verdict.IMPOSSIBLE)
        ),
    ]


def _plan(ask: Ask, states: Sequence[GpuState]) -> Plan:
    wanted = ask(states)
    return plan(states, wanted.wishes, wanted.missing)


def _target(todo: Plan, before: Layouts, wanted: Wanted, states: Sequence[GpuState]) -> Layouts:
    """Return what shall be saved: the layout in the end, with the devices that are or were there."""
    readable = {state.uuid for state in states if not state.problem}
    # A GPU that does not answer today, or was taken out, comes back as it was.
    target = {uuid: layout for uuid, layout in before.items() if not wanted.complete or uuid not in readable}
    for gpu in todo.gpus:
        state = gpu.state
        known = before.get(state.uuid, Layout(mig=False))
        now = {item.placed: item.uuid for item in state.instances if item.uuid}
        if gpu.verdict is Verdict.WAITS:
            # What is in use now is what shall be there again after a reboot, until it can be changed.
            target[state.uuid] = Layout.of(state)
        elif gpu.verdict is not Verdict.UNKNOWN:
            instances = {placed: now.get(placed) or known.instances.get(placed) for placed in gpu.target}
            target[state.uuid] = Layout(gpu.wish.mig, instances)
    return target


def _carry_out(session: Session, gpu: GpuPlan, leases: Leases) -> str:
    """Change one GPU; return what went wrong, if anything did."""
    # A GPU that is to be divided is a device itself until then.
    whole = (gpu.state.uuid,) if gpu.mode and not gpu.state.enabled else ()
    ending = [*whole, *(uuid for instance in gpu.destroy for uuid in instance.devices)]
    try:
        with leases.withdrawn(ending) as takers:
            if takers:
                return f"{takers[0]} came meanwhile: nothing was changed"
            return _rebuild(Card(session, gpu.state.uuid), gpu)
    except NvmlError as error:
        return f"{error}; {error.fix}".removesuffix("; ")
    except ReportedError as error:
        return str(error)


def _rebuild(card: Card, gpu: GpuPlan) -> str:
    if gpu.mode and not _set_mode(card, on=True):
        return ""  # It comes with a reset, and the boot unit does the rest: what is asked for is saved.
    if failure := _clear(card, gpu.destroy):
        return failure
    for instance in gpu.complete:
        card.complete(instance.gi_id, instance.placed)
    for placed in gpu.create:
        card.create(placed)
    if gpu.mode is False:
        _set_mode(card, on=False)
    return ""


def _set_mode(card: Card, *, on: bool) -> bool:
    """Switch the MIG mode, with nobody of ours holding the GPU open; return whether that took effect at once."""
    holders.let_go()
    return card.set_mode(on=on)


def _clear(card: Card, instances: Sequence[Instance]) -> str:
    """Remove instances. If somebody uses one after all, put back those that went, and return who is in the way."""
    for number, instance in enumerate(instances):
        try:
            card.destroy(instance.gi_id)
        except NvmlError as error:
            if error.kind is not Kind.IN_USE:
                raise
            for lost in instances[:number]:
                card.create(lost.placed)
            return f"somebody began to use {instance.device or instance.placed} meanwhile: nothing was changed"
    return ""


def _verify(outcome: Outcome) -> None:
    """Add what is not as it should be, by what the driver says now."""
    for name in outcome.after.missing:
        outcome.failures[name] = f"not found; {', '.join(outcome.after.unreadable)} could not be read"
    changed = {gpu.state.name for gpu in outcome.plan.gpus if gpu.changes}
    for after in outcome.after.gpus:
        if after.verdict is Verdict.UNKNOWN:
            outcome.failures.setdefault(after.state.name, after.reason)
        elif after.verdict is Verdict.CHANGE and after.state.name in changed:
            has = ", ".join(str(instance.placed) for instance in after.state.instances) or "no instances"
            outcome.failures.setdefault(after.state.name, f"after the change the driver says: {has}")


def _succession(
    states: Sequence[GpuState], after: Sequence[GpuState], before: Layouts
) -> tuple[dict[str, str], list[str]]:
    """Return which device followed which at its place, and which were not followed by any."""
    moved: dict[str, str] = {}
    gone: list[str] = []
    found = {state.uuid: state for state in after if not state.problem}
    for was in states:
        now = found.get(was.uuid)
        if now is None:
            continue  # What could not be read is not gone.
        there = {instance.placed: instance.uuid for instance in now.instances}
        known = [*(before[was.uuid].instances.items() if was.uuid in before else ())]
        known += [(instance.placed, instance.uuid) for instance in was.instances]
        for placed, uuid in known:
            new = there.get(placed)
            if uuid is None or uuid in there.values():
                continue
            if new is not None:
                moved[uuid] = new
            elif uuid not in gone:
                gone.append(uuid)
        if now.enabled and not was.enabled and not (was.uuid in before and before[was.uuid].mig):
            gone.append(was.uuid)
    return moved, gone


def _present(layout: Layout, uuid: str, outcome: Outcome, after: Sequence[GpuState]) -> Layout:
    """Return a layout with the devices that are there now."""
    state = next((state for state in after if state.uuid == uuid), None)
    if state is None or state.problem:
        return layout
    if any(gpu.state.uuid == uuid for gpu in outcome.after.having(Verdict.WAITS)):
        return Layout.of(state)
    now = {item.placed: item.uuid for item in state.instances}
    return Layout(layout.mig, {placed: now.get(placed) or known for placed, known in layout.instances.items()})


def _slots(gpu: GpuPlan) -> str:
    return ", ".join(map(str, gpu.wish.slots)) or "divided"


def _record(
    kind: events.EventType,
    todo: Plan,
    decision: events.Decision,
    via: str,
    *,
    reason: str | None = None,
    fix: str | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    gpus = [
        {
            "gpu": gpu.state.index,
            "verdict": str(gpu.verdict),
            "destroyed": [item.uuid or str(item.placed) for item in gpu.destroy],
            "created": list(map(str, gpu.create)),
            "mode": gpu.mode,
        }
        for gpu in todo.gpus
        if gpu.verdict is not Verdict.DONE
    ]
    events.record(
        kind,
        actor=events.this_process(via),
        subject={"kind": "mig", "name": "layout"},
        decision=decision,
        reason=reason,
        fix=fix,
        details={"gpus": gpus, **(details or {})},
    )
