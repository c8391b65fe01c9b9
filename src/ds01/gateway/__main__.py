"""`python -m ds01.gateway`: the service."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ds01.cdi.files import SpecFiles
from ds01.gateway.api import Api
from ds01.gateway.audit import Audit
from ds01.gateway.conversation import Shared
from ds01.gateway.engine import Engine
from ds01.gateway.gateway import Gateway
from ds01.gateway.gpus import Gpus
from ds01.gateway.listener import Sockets
from ds01.gateway.ownership import Ownership
from ds01.gateway.people import People, Tables
from ds01.gateway.process import Process, successor_command
from ds01.gateway.refusals import Refused
from ds01.gateway.spool import DIRECTORY, Spool
from ds01.gateway.workers import Workers
from ds01.ledger import LEDGER, Ledger, LedgerError, recovery
from ds01.policy import DEFAULT_PATH
from ds01.policy.cache import load_tables

_OWNERS_S: Final = 1.0
"""Seconds to write down an owner; the reconciler does it later if the ledger is busy, and nobody waits for that."""


def main(read_policy: Callable[[Path], Tables] = load_tables) -> int:
    """Serve until told to end; 1 when it could not begin."""
    parser = argparse.ArgumentParser(prog="ds01-gateway", description="The Docker API gateway.")
    parser.add_argument(
        "--engine", type=Path, default=Path("/run/ds01/engine/docker.sock"), help="socket of the engine"
    )
    parser.add_argument("--sockets", type=Path, default=Path("/run"), help="directory of the shared socket")
    parser.add_argument("--users", type=Path, default=Path("/run/ds01/users"), help="directory of the users' sockets")
    parser.add_argument("--spool", type=Path, default=DIRECTORY, help="directory for uploads that are being read")
    parser.add_argument("--policy", type=Path, default=Path(DEFAULT_PATH))
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        asyncio.run(_serve(options, lambda: read_policy(options.policy)))
    except (Refused, OSError) as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - the cause is in the text
        return 1
    return 0


async def _serve(options: argparse.Namespace, tables: Callable[[], Tables]) -> None:
    try:
        recovery.ensure(options.ledger)
    except LedgerError as error:
        # Only what has to do with GPUs needs it.
        logging.getLogger(__name__).warning("without a ledger: %s", error)
    engine = Engine(options.engine)
    ownership = Ownership(Ledger(options.ledger, deadline_s=_OWNERS_S), engine)
    sockets = Sockets(options.sockets, options.users)
    people = People(tables)
    shared = Shared(
        engine=engine,
        people=people,
        audit=Audit(),
        # Its own connection: nothing else waits while a claim is decided on.
        gpus=Gpus(Ledger(options.ledger), people, SpecFiles()),
        large=Workers("a long list", 2, 30.0),
        disk=Workers("the file system", 4, 10.0),
        sockets=sockets,
        api=Api(tables, options.ledger, options.engine),
        spool=Spool(options.spool),
    )
    await Process(Gateway(shared, ownership), sockets, successor_command).run()


if __name__ == "__main__":
    sys.exit(main())
