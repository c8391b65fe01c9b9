# SPDX-License-Identifier: MIT
"""The frame of DS01's modules: parameters in, a result or one message out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.ds01.problems import ProblemsError, RefusedError, ReportedError


def run_module(act: Callable[[AnsibleModule], dict[str, Any]], **specification: Any) -> None:
    """Run a module and end the process.

    Args:
        act: Does what the parameters ask for and returns the result. Its `warnings` become warnings; one with `failed`
            and `msg` is a failure.
        specification: Arguments of AnsibleModule.
    """
    module = AnsibleModule(supports_check_mode=True, **specification)
    try:
        result = act(module)
    except ProblemsError as error:
        problems = [str(problem) for problem in error.problems]
        opening = "Nothing was changed.\n" if isinstance(error, RefusedError) else ""
        module.fail_json(msg=f"{opening}{error}", problems=problems)
    except (ReportedError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=_of_system(error))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


def _of_system(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    expected = "something that can be read and written"
    return f"{error.filename}: {error.strerror}: {expected}: make room or correct its rights, then run again"
