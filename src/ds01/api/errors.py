"""Answers that say no: one shape for the API, the commands and their exit codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ds01.problems import ReportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01.allocator.model import Refusal

BAD, FORBIDDEN, NOT_THERE, CONFLICT, NOT_NOW = 400, 403, 404, 409, 503
STATUS: Final[dict[str, int]] = {
    "quota": FORBIDDEN,
    "permission": FORBIDDEN,
    "reservation": CONFLICT,
    "capacity": CONFLICT,
    "unhealthy": CONFLICT,
    "internal": NOT_NOW,
}
"""HTTP's status for each kind of refusal of the allocator."""
_EXIT: Final = {BAD: 2, FORBIDDEN: 3, NOT_THERE: 5}
_EXIT_OF_KIND: Final = {"internal": 1, "capacity": 4, "unhealthy": 4}
_REFUSED: Final = 3
_FAILED: Final = 1


class ApiError(ReportedError):
    """A question that is not answered. `data` is what the API sends; `status` is that of HTTP."""

    def __init__(self, status: int, data: Mapping[str, Any]) -> None:
        """Take the answer."""
        self.status = status
        self.data = dict(data)
        fix = self.data.get("fix")
        super().__init__(f"{self.data['message']}: {fix}" if fix else str(self.data["message"]))

    @property
    def exit_code(self) -> int:
        """The exit code of a command that gets this answer."""
        if (kind := self.data.get("kind")) is not None:
            return exit_of(kind, possible=self.data.get("possible") is not False)
        return _EXIT.get(self.status, _FAILED)


def exit_of(kind: str, *, possible: bool) -> int:
    """Return the exit code for a kind of refusal of the allocator; what can never be free is refused, not taken."""
    return _REFUSED if kind == "capacity" and not possible else _EXIT_OF_KIND.get(kind, _REFUSED)


def error(status: int, message: str, rule: str, fix: str = "", **more: Any) -> ApiError:
    """Return an error in the shape of the API."""
    numbers = {"current": None, "requested": None, "limit": None}
    return ApiError(status, {"message": message, "rule": rule, **numbers, "fix": fix} | more)


def refused(refusal: Refusal) -> ApiError:
    """Return what the allocator refuses, with everything it says."""
    return ApiError(STATUS[refusal.kind], refusal.as_dict())
