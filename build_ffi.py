"""How the C library is compiled into the extension ``numcodecs_crackle._crackle``.

The declarations come from ``csrc/crackle.h`` alone: what stands there between
the two cdef marks.
"""

import os
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# A Python of MSYS2 was built by gcc, which also builds what it loads.
MSVC = sys.platform == "win32" and not sysconfig.get_platform().startswith("mingw")
SOURCES = sorted(p.as_posix() for p in Path("csrc").glob("*.c"))
HEADERS = sorted(p.as_posix() for p in Path("csrc").glob("*.h"))


def declarations() -> str:
    header = Path(__file__).with_name("csrc").joinpath("crackle.h").read_text()
    begin = header.index("/* cdef:")
    return header[begin : header.index("/* end of cdef */")]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "numcodecs_crackle._crackle",
    '#include "crackle.h"',
    sources=SOURCES,
    depends=HEADERS,
    include_dirs=["csrc"],
    extra_compile_args=(
        ["/O2", "/std:c11"] if MSVC else ["-O3", "-std=c11", "-fvisibility=hidden", "-g0"]
    )
    # What comes last counts: `make sanitize` says -O1 -g here.
    + os.environ.get("CRACKLE_CFLAGS", "").split(),
    py_limited_api=not FREE_THREADED,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
