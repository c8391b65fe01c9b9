"""DS01's own API, for our commands and for programs of people: the resources of `ds01.api` over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ds01.api import resources
from ds01.api.call import Asker
from ds01.api.errors import ApiError, error
from ds01.gateway import jsonbody, own_slice
from ds01.gateway.exchange import Exchange
from ds01.gateway.refusals import Refused

if TYPE_CHECKING:
    from ds01.gateway.ownership import Ownership

_OURS: Final = resources.PREFIX


async def answer(exchange: Exchange, ownership: Ownership) -> None:
    """Answer a question, or say why not in the API's own shape."""
    del ownership
    try:
        await _answer(exchange)
    except Refused as refusal:
        shape = error(refusal.status, refusal.reason, refusal.rule, refusal.fix)
        raise _Said(shape) from refusal
    except ApiError as problem:
        # What the allocator refuses is in the log already.
        if problem.status == HTTPStatus.FORBIDDEN and "kind" not in problem.data:
            raise _Said(problem) from problem
        await exchange.answer(problem.status, jsonbody.write(problem.data) + b"\n")


class _Said(Refused):
    """A refusal whose answer has the shape of the API."""

    def __init__(self, problem: ApiError) -> None:
        data = problem.data
        super().__init__(problem.status, data["message"], data["rule"], data["fix"])
        self._data = data

    def body(self) -> bytes:
        return jsonbody.write(self._data) + b"\n"


async def _answer(exchange: Exchange) -> None:
    method, caller, api = exchange.head.method, exchange.caller, exchange.shared.api
    path = exchange.where.segments
    if path[:2] != _OURS or exchange.where.version is not None:
        raise error(HTTPStatus.NOT_FOUND, exchange.where.path[:80], "api.unknown", "its paths begin with /ds01/v1/")
    query = _query(exchange)
    body: Any = {}
    if exchange.route.body == "json":
        body = await exchange.json_body()
        if not isinstance(body, dict):
            raise error(HTTPStatus.BAD_REQUEST, "the body is not an object", "api.value", "send a JSON object")
    if (method, path[2:]) == ("POST", ("slice",)):
        await exchange.answer(HTTPStatus.OK, jsonbody.write(await own_slice.enter(exchange)) + b"\n")
        return
    person = caller.person
    asker = Asker(person.uid, person.name, caller.admin, caller.via, person.groups)
    if method == "GET" and path[2:] == ("events",) and query.get("follow") == "1":
        await exchange.stream(await api.follow(asker, query))
        return
    found = await api.answer(asker, method, list(path[2:]), query, body)
    if caller.admin and method != "GET":
        subject = {"kind": "ds01", "name": "/".join(path[2:])}
        details = {"request": f"{method} {exchange.where.path}"}
        await exchange.audit.record("gateway.admin", caller, subject, "allowed", details=details)
    await exchange.answer(HTTPStatus.OK, jsonbody.write(found) + b"\n")


def _query(exchange: Exchange) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in exchange.where.query:
        if name in found:
            raise error(HTTPStatus.BAD_REQUEST, f"{name}: given more than once", "api.value", "give it once")
        found[name] = value
    return found
