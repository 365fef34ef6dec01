# SPDX-License-Identifier: BUSL-1.1
"""Write a GGUF file's twin with all weights dequantised to float32. Usage: IN OUT.

Dequantised by the `gguf` package, so that nothing of ours judges ours.
"""

import sys

import gguf
import numpy as np


def main() -> None:
    source = gguf.GGUFReader(sys.argv[1])
    arch = source.fields["general.architecture"].contents()
    target = gguf.GGUFWriter(sys.argv[2], arch)
    skipped = ("GGUF.", "general.architecture", "general.file_type")
    for name, field in source.fields.items():
        if name.startswith(skipped):
            continue
        inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        target.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    target.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in source.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        target.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    target.write_header_to_file()
    target.write_kv_data_to_file()
    target.write_tensors_to_file()
    target.close()


main()
