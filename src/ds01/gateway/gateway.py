"""The gateway: from an accepted connection to a judged request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Final

from ds01.gateway import follower, handlers, identity, session
from ds01.gateway.conversation import Budget, Shared
from ds01.gateway.exchange import Exchange
from ds01.gateway.identity import Peer
from ds01.gateway.listener import Sockets
from ds01.gateway.ownership import Ownership
from ds01.gateway.people import Caller
from ds01.gateway.refusals import Refused
from ds01.gateway.session import Request
from ds01.gateway.wire import Wire
from ds01.gateway.workers import ASKER

CONNECTIONS_PER_USER: Final = 512
CONNECTIONS: Final = 8_192
"""In all. Each needs two descriptors; the unit's LimitNOFILE allows them."""
_REFUSED: Final = 1_024
"""Connections that are told why they are refused, which takes them seconds; what is beyond is closed at once."""


log = logging.getLogger(__name__)


def _broken(error: Exception) -> Refused:
    """Fail closed: what went wrong here is not forwarded."""
    log.error("a request could not be judged", exc_info=error)
    return Refused(500, "the gateway could not judge this request", "gateway.failed", "tell the administrator")


@dataclass
class Gateway:
    """Everything that connections share."""

    shared: Shared
    ownership: Ownership

    def __post_init__(self) -> None:
        """Start without connections."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._count: Counter[int] = Counter()
        self._refused = 0
        self._budgets: dict[int, Budget] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._tasks)

    def accepted(self, connection: socket.socket, owner: int | None) -> None:
        """Serve a connection, on the socket of `owner` or on the shared one."""
        now = identity.boot_seconds()
        task = asyncio.get_running_loop().create_task(self._connection(connection, owner, now))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def recall(self, sockets: Sockets) -> None:
        """Read who owns what, and let the socket of everybody who has a container listen: it may be bound into one.

        Raises:
            Refused: The ledger does not answer: then nobody may be served.
        """
        await self.ownership.read()
        for uid in sorted(self.ownership.owners("container")):
            try:
                sockets.ensure(uid)
            except OSError as error:
                log.warning("no socket for uid %d: %s", uid, error)

    async def compare(self) -> None:
        """See what the engine has; without an answer this is left to `follow`, and requests are refused meanwhile."""
        try:
            await self.ownership.compare()
        except Refused as error:
            log.warning("the owners cannot be compared with the engine now: %s", error)

    async def follow(self) -> None:
        """Keep the owners in step with the engine, for ever."""
        shared = self.shared
        await follower.follow(shared.engine, self.ownership, shared.gpus, shared.disk)

    async def drained(self) -> None:
        """Wait until every connection has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Let go of what waits."""
        self.shared.close()
        self.ownership.close()

    async def _connection(self, connection: socket.socket, owner: int | None, accepted: float) -> None:
        refusal: Refused | None = None
        caller: Caller | None = None
        try:
            found = identity.peer(connection, accepted)
            caller = await self._caller(found, owner)
        except Refused as error:
            refusal = error
        _, client = await asyncio.get_running_loop().connect_accepted_socket(Wire, connection)
        if caller is None or refusal is not None:
            refusal = refusal or Refused(403, "nobody asks", "identity.process")
            await self.shared.audit.refused(None, "connection", "socket", str(owner or "shared"), refusal)
            await self._refuse(client, refusal)
            return
        uid = caller.uid
        ASKER.set(uid)
        self._count[uid] += 1
        try:
            await self._serve(client, caller)
        finally:
            self._count[uid] -= 1
            if self._count[uid] <= 0:
                del self._count[uid]
                self._budgets.pop(uid, None)

    async def _serve(self, client: Wire, caller: Caller) -> None:
        if self._count[caller.uid] > CONNECTIONS_PER_USER or self.connections > CONNECTIONS:
            refusal = Refused(
                503, f"{self._count[caller.uid]} connections are open", "gateway.connections", "close some programs"
            )
            await self.shared.audit.refused(caller, "connection", "socket", "shared", refusal)
            await self._refuse(client, refusal)
            return

        async def judge(wire: Wire, request: Request) -> bool:
            return await self._judge(wire, request, caller)

        async def report(what: str, refusal: Refused) -> str | None:
            return await self.shared.audit.refused(caller, what, "request", what, refusal)

        await session.serve(client, judge, report)

    async def _refuse(self, client: Wire, refusal: Refused) -> None:
        if self._refused >= _REFUSED:
            client.abort()
            return
        self._refused += 1
        try:
            await session.refuse(client, refusal)
        finally:
            self._refused -= 1

    async def _caller(self, found: Peer, owner: int | None) -> Caller:
        """Turn a process into a person, or refuse it."""
        if owner is None:
            if not found.host:
                raise Refused(
                    403,
                    "this socket serves only processes of the host, and this one is in a container or sandbox",
                    "identity.container",
                    "give the container its owner's socket: -v /var/run/docker.sock:/var/run/docker.sock does that",
                )
            person = await self.shared.people.person(found.uid)
            return Caller(person, await self.shared.people.is_admin(person), "docker.sock", found.pid)
        if found.host and found.uid not in {owner, 0}:
            raise Refused(
                403, f"this is the socket of uid {owner}, not of uid {found.uid}", "identity.foreign-socket",
                "use /var/run/docker.sock",
            )  # fmt: skip
        # Whoever runs inside acts as the owner, with the owner's rights as an ordinary person.
        return Caller(await self.shared.people.person(owner), admin=False, via="user-socket")

    async def _judge(self, client: Wire, request: Request, caller: Caller) -> bool:
        budget = self._budgets.setdefault(caller.uid, Budget())
        exchange: Exchange | None = None
        try:
            exchange = Exchange(
                client=client,
                head=request.head,
                where=request.where,
                route=request.route,
                names=request.names,
                caller=caller,
                shared=self.shared,
                budget=budget,
            )
            await handlers.handle(exchange, self.ownership)
        except (Refused, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            refusal = error if isinstance(error, Refused) else _broken(error)
            if exchange is not None and exchange.answering:
                # The answer is cut off: only the end of the connection can say so.
                client.abort()
                return False
            kind = request.route.pattern[0]
            name = request.names[0] if request.names else ""
            await self.shared.audit.refused(caller, str(request), kind, name, refusal)
            if exchange is None or not exchange.body_read or not exchange.keep_alive:
                await session.refuse(client, refusal)
                return False
            await exchange.answer(refusal.status, refusal.body())
        return exchange.keep_alive

    async def end_connections(self) -> None:
        """End what is still open, at the end of the process."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)
