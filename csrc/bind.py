# SPDX-License-Identifier: BUSL-1.1
"""Write the C source of a cffi extension. Usage: bind.py MODULE OUTPUT HEADER...

Each HEADER is plain C that cffi can read: no includes, and only number macros.
"""

import sys
from pathlib import Path

import cffi

_, module, output, *headers = sys.argv
ffi = cffi.FFI()
for header in headers:
    ffi.cdef(Path(header).read_text())
names = [f"{path.parent.name}/{path.name}" for path in map(Path, headers)]
includes = "".join(f'#include "{name}"\n' for name in names)
ffi.set_source(module, "#include <stddef.h>\n#include <stdint.h>\n" + includes)
ffi.emit_c_code(output)
