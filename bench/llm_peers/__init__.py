# SPDX-License-Identifier: BUSL-1.1
"""The contestants of `bench/llm.py` by name, each a class in a module of this package.

Only the process that runs a contestant imports its module, with that contestant's Python: so
`peer`, `process`, `memory` and `llamacpp` need NumPy and llama-cpp-python, and nothing of
MLOS Core.
"""

CONTESTANTS = ("synapse", "llama.cpp")
MODULES = {
    "synapse": ("synapse", "Synapse"),
    "llama.cpp": ("llamacpp", "LlamaCpp"),
    # Of the case `client` alone:
    "synapse-engine": ("engine", "InProcess"),
    "synapse-client": ("engine", "ThroughMemory"),
}
