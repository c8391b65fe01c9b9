"""The table of endpoints: nothing is judged by chance."""

from __future__ import annotations

import pytest

from ds01.gateway.handlers import HANDLERS
from ds01.gateway.handlers.denials import _REASONS
from ds01.gateway.routes import ROUTES, Kind, find

DANGEROUS = [
    ("POST", "/grpc"), ("POST", "/session"), ("PUT", "/volumes/x"), ("POST", "/swarm/init"), ("POST", "/plugins/pull"),
    ("GET", "/debug/vars"), ("GET", "/debug/pprof/heap"),
    ("GET", "/containers/x/attach/ws"), ("POST", "/services/create"),
    ("POST", "/containers/x/checkpoints"), ("POST", "/build/cancel"),
    ("POST", "/secrets/create"), ("POST", "/containers/x/copy"), ("POST", "/plugins/a/b/enable"),
]  # fmt: skip
UNKNOWN = [
    ("OPTIONS", "/_ping"), ("PATCH", "/containers/x"), ("GET", "/containers"), ("POST", "/containers/a/b/start"),
    ("GET", "/Containers/json"), ("DELETE", "/containers"), ("GET", "/metrics"), ("TRACE", "/_ping"),
]  # fmt: skip


def test_every_route_has_its_judge():
    for route in ROUTES:
        assert route.handler in (_REASONS if route.kind is Kind.DENY else HANDLERS), route
    assert set(HANDLERS) == {route.handler for route in ROUTES if route.kind is not Kind.DENY}
    assert len({(route.method, route.pattern) for route in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize(("method", "path"), DANGEROUS)
def test_dangerous_endpoints_are_known_and_closed(method: str, path: str):
    found = find(method, tuple(path.split("/")[1:]))
    assert found is not None
    assert found[0].kind is Kind.DENY


@pytest.mark.parametrize(("method", "path"), UNKNOWN)
def test_anything_else_is_not_there(method: str, path: str):
    assert find(method, tuple(path.split("/")[1:])) is None


def test_an_image_name_may_have_slashes_and_fixed_paths_win():
    assert find("GET", ("images", "a", "b", "json")) is not None
    route, names = find("GET", ("images", "a", "b:c", "json"))
    assert (route.handler, names) == ("image", ("a/b:c",))
    assert find("GET", ("images", "json"))[0].handler == "list_images"
    assert find("POST", ("containers", "create"))[0].handler == "create_container"
