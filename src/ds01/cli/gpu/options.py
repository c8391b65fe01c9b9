"""Options that the verbs share which ask for devices, and their values."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ds01.cli import values

if TYPE_CHECKING:
    from collections.abc import Callable


def request_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is asked for; the command gets them as `request`."""

    @click.option("--count", metavar="N", help='How many devices, or "all": as many as the person may have.')
    @click.option("--profile", help="Devices of this MIG profile, or larger ones.")
    @click.option("--memory", metavar="SIZE", help="Devices with at least this much memory, like 20g.")
    @click.option("--full", is_flag=True, help="Whole GPUs.")
    @click.option("--device", "devices", multiple=True, help="This device and no other: 0, 0:1 or a UUID; repeatable.")
    @click.option("--runtime", metavar="TIME", help="Needed at most this long, like 4h.")
    @wraps(command)
    def with_request(
        *arguments: Any,
        count: str | None,
        profile: str | None,
        memory: str | None,
        full: bool,
        devices: tuple[str, ...],
        runtime: str | None,
        **options: Any,
    ) -> Any:
        from ds01.allocator.request import BadRequest, Request  # noqa: PLC0415 - help texts need no allocator

        seconds = None if runtime is None else values.duration(runtime, "--runtime")
        try:
            if devices:
                if count or profile or memory or full:
                    raise click.UsageError("--device names the devices: leave out --count, --profile, --memory, --full")
                request = Request.named(devices, seconds)
            else:
                size = 0 if memory is None else values.size(memory, "--memory")
                request = Request(_count(count), profile, size, full, (), seconds)
        except BadRequest as error:
            raise click.UsageError(str(error)) from error
        return command(*arguments, request=request, **options)

    return with_request


def _count(text: str | None) -> int | None:
    if text is None:
        return 1
    if text == "all":
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 4:  # noqa: PLR2004 - no server has as many
        raise click.UsageError(f"--count: {text}: write a number of devices, or all")
    return int(text)
