"""A plan in words: what happens to which GPU, and who is in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ds01.mig.model import GpuPlan, GpuState, Instance, Plan, Verdict

_OPENING = {
    Verdict.DONE: "as wanted",
    Verdict.CHANGE: "changes now, nobody is disturbed",
    Verdict.WAITS: "waits, nothing is touched",
    Verdict.RESET: "waits for a reset or reboot",
    Verdict.IMPOSSIBLE: "cannot be divided so",
    Verdict.UNKNOWN: "could not be read, nothing is touched",
}


def lines(plan: Plan) -> list[str]:
    """Return the whole plan for people."""
    found = [line for gpu in plan.gpus for line in _gpu(gpu)]
    found += [f"GPU {name}: there is none like that on this host" for name in plan.missing]
    if not found:
        return ["No GPU is asked to be anything: nothing to do."]
    if any("@" in line for line in found):
        found += ["", "2g.20gb@4 is a 2g.20gb that begins at memory slice 4 of its GPU."]
    return found


def now(states: Iterable[GpuState]) -> str:
    """Return the layout that is there, a line for each GPU, for a comparison."""
    return "".join(f"{state.name}: {_layout(state)}\n" for state in states)


def then(plan: Plan) -> str:
    """Return the layout after the plan, a line for each GPU, for a comparison with `now`."""
    return "".join(f"{gpu.state.name}: {_target(gpu) if gpu.changes else _layout(gpu.state)}\n" for gpu in plan.gpus)


def _gpu(gpu: GpuPlan) -> Iterator[str]:
    yield f"{gpu.state.name} ({gpu.state.model}): {_OPENING[gpu.verdict]}"
    yield f"  now      {_layout(gpu.state)}"
    if gpu.verdict is not Verdict.DONE and gpu.verdict is not Verdict.UNKNOWN:
        yield f"  wanted   {_target(gpu) if gpu.target or not gpu.wish.mig else ', '.join(map(str, gpu.wish.slots))}"
    if gpu.changes:
        if gpu.mode:
            yield "  first    MIG mode is switched on"
        for verb, items in (("stays", gpu.keep), ("goes", gpu.destroy), ("is completed", gpu.complete)):
            for item in items:
                yield f"  {verb:<8} {_called(item)}"
        for placed in gpu.create:
            yield f"  comes    {placed}"
        if gpu.mode is False:
            yield "  last     MIG mode is switched off"
    for item in gpu.blockers:
        yield from (f"  in use   {_called(item)} by {holder}" for holder in item.holders)
    yield from (f"  has it open: {holder}" for holder in gpu.holders)
    if gpu.reason and not gpu.blockers:
        yield f"  why      {gpu.reason}"
    if gpu.fix:
        yield f"  next     {gpu.fix}"


def _layout(state: GpuState) -> str:
    if state.problem:
        return "unknown"
    if not state.enabled:
        return "whole"
    return ", ".join(str(item.placed) for item in state.instances) or "divided, but empty"


def _target(gpu: GpuPlan) -> str:
    if not gpu.wish.mig:
        return "whole"
    return ", ".join(map(str, gpu.target)) or "divided, but empty"


def _called(item: Instance) -> str:
    return f"{item.device} ({item.placed})" if item.device else str(item.placed)
