"""Let requests happen: the decisions and the queue are those of production, the clock and the devices are not."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ds01.allocator.decide import decide
from ds01.allocator.model import DeviceView, Grant, Holder, Person, Refusal, Snapshot
from ds01.allocator.queue import NEWCOMER, Waiting, ahead_of, decayed_hours, serve

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ds01.allocator.people import People
    from ds01.allocator.simulate.jobs import Job


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request. `waited` is None for one that got nothing; times in milliseconds."""

    user: str
    group: str
    outcome: str
    """`served`, `gave up`, or the kind of the refusal."""
    waited: int | None = None
    ran: int = 0
    weight: float = 0.0
    cut: bool = False
    """Stopped by `max_runtime` before it was done."""


def replay(jobs: Iterable[Job], people: People, devices: tuple[DeviceView, ...], now: int) -> list[Result]:
    """Return what becomes of each request under the limits of a policy; `now` decides which overrides count."""
    return _World(people, devices, now).run(sorted(jobs, key=lambda job: (job.at, job.user)))


class _World:
    def __init__(self, people: People, devices: tuple[DeviceView, ...], start: int) -> None:
        self.people, self.start, self.now = people, start, start
        self.devices = {device.uuid: device for device in devices}
        self.waiting: dict[int, tuple[Waiting, Job]] = {}
        self.frees: list[tuple[int, str]] = []
        self.used: dict[str, list[tuple[int, int, float]]] = {}
        self.persons: dict[str, Person] = {}
        self.uids: dict[str, int] = {}
        self.results: list[Result] = []

    def run(self, jobs: list[Job]) -> list[Result]:
        for number, job in enumerate(jobs):
            self._until(self.start + job.at)
            self._ask(number, job)
        while self.frees:
            self._until(self.frees[0][0])
        self._give_up(None)
        return self.results

    def _until(self, moment: int) -> None:
        """Let devices come free, and the queue be served, up to a moment."""
        while self.frees and self.frees[0][0] <= moment:
            self.now = self.frees[0][0]
            while self.frees and self.frees[0][0] <= self.now:
                uuid = heapq.heappop(self.frees)[1]
                self.devices[uuid] = replace(self.devices[uuid], holder=None)
            self._give_up(self.now)
            if self.waiting:
                self._serve()
        self.now = moment

    def _ask(self, number: int, job: Job) -> None:
        person = self._person(job.user)
        if job.request.count == 0:
            return
        snapshot, newcomer = self._snapshot(), self._waiting(NEWCOMER, person, job)
        if self.waiting:
            snapshot = ahead_of(newcomer, [entry for entry, _ in self.waiting.values()], snapshot)
        answer = decide(job.request, person, snapshot)
        if isinstance(answer, Grant):
            self._begin(person, job, answer)
        elif answer.may_wait:
            self.waiting[number] = (replace(newcomer, number=number), job)
        else:
            self._end(person, answer)

    def _serve(self) -> None:
        entries = [replace(entry, used=self._hours(job.user)) for entry, job in self.waiting.values()]
        for entry, grant in serve(entries, self._snapshot()).granted:
            _, job = self.waiting.pop(entry.number)
            self._begin(entry.person, job, grant)

    def _begin(self, person: Person, job: Job, grant: Grant) -> None:
        """Let a container run, and its devices be held afterwards."""
        most = person.limits.max_runtime
        ran = job.lasts if most is None else min(job.lasts, most * 1000)
        hold = person.limits.gpu_hold_after_stop
        removed = person.limits.container_hold_after_stop
        known = [seconds for seconds in (hold, removed) if seconds is not None]
        free = self.now + ran + min(known, default=0) * 1000
        # Nobody knows when a container ends: others see its longest time, as in production.
        frees_at = None if most is None else self.now + most * 1000
        holder = Holder("", person.uid, person.user, person.group, person.limits.priority, "running", None, frees_at)
        weight = sum(device.weight for device in grant.devices)
        for device in grant.devices:
            self.devices[device.uuid] = replace(device, holder=holder)
            heapq.heappush(self.frees, (free, device.uuid))
        self.used.setdefault(person.user, []).append((self.now, self.now + ran, weight))
        waited = self.now - (self.start + job.at)
        self.results.append(Result(person.user, person.group, "served", waited, ran, weight, ran < job.lasts))

    def _end(self, person: Person, refusal: Refusal) -> None:
        self.results.append(Result(person.user, person.group, refusal.kind if refusal.possible else "never possible"))

    def _give_up(self, moment: int | None) -> None:
        for number, (entry, job) in list(self.waiting.items()):
            if moment is None or entry.since + job.patience <= moment:
                del self.waiting[number]
                self.results.append(Result(entry.person.user, entry.person.group, "gave up"))

    def _snapshot(self) -> Snapshot:
        return Snapshot(self.now, tuple(self.devices.values()), strategy=self.people.allocation["strategy"])

    def _waiting(self, number: int, person: Person, job: Job) -> Waiting:
        return Waiting(number, person, job.request, self.now, self._hours(job.user) if self.waiting else 0.0)

    def _hours(self, user: str) -> float:
        return decayed_hours([(a, min(b, self.now), w) for a, b, w in self.used.get(user, ())], self.now)

    def _person(self, user: str) -> Person:
        if user not in self.persons:
            uid = self.uids.setdefault(user, len(self.uids) + 1)
            self.persons[user] = self.people.person(uid, user, self.start)
        return self.persons[user]
