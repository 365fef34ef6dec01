# SPDX-License-Identifier: BUSL-1.1
"""Write the C source of the cffi extension. Usage: bind.py MODULE HEADER OUTPUT."""

import sys
from pathlib import Path

import cffi

_, module, header, output = sys.argv
ffi = cffi.FFI()
ffi.cdef(Path(header).read_text())
ffi.set_source(module, '#include "mlos/ipc.h"')
ffi.emit_c_code(output)
