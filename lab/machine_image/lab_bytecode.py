# ruff: noqa: INP001  # it is copied out of here and imported by itself
"""Keep the byte code of modules that are imported from zip archives, which Python itself never does.

Ansible sends each module as such an archive. By emulation, compiling it takes longer than all it does.
"""

import _imp
import marshal
import os
import zipimport
from types import CodeType

_CACHE = "/var/cache/lab-bytecode"
_compile = zipimport._compile_source  # type: ignore[attr-defined]  # noqa: SLF001  # there is no public place for it


def _compile_once(path: str, source: bytes) -> CodeType:
    name = f"{_CACHE}/{_imp.source_hash(len(source), source).hex()}"
    try:
        with open(name, "rb") as file:  # noqa: PTH123  # importing pathlib costs more than the rest
            code: CodeType = marshal.loads(file.read())  # noqa: S302  # only root can write there
            return code
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile(path, source)
    if os.geteuid() == 0:
        part = f"{name}.{os.getpid()}"
        with open(part, "wb") as file:  # noqa: PTH123  # without pathlib, as above
            file.write(marshal.dumps(code))
        os.rename(part, name)  # noqa: PTH104  # without pathlib, as above
    return code


zipimport._compile_source = _compile_once  # type: ignore[attr-defined]  # noqa: SLF001  # as above: no public place
