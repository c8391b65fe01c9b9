"""A program that is killed at one of its steps, so that each can be the last one."""

from __future__ import annotations

from typing import Final

KILL_HOOK: Final = """
import os, sys
steps = 0
def hook(event, args):
    global steps
    if event in {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "subprocess.Popen"}:
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
"""
"""Python for a program that has set `kill_at`: at which of its steps that change something it dies (0: never)."""
