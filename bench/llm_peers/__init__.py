# SPDX-License-Identifier: BUSL-1.1
"""The contestants of `bench/llm.py` by name, each a class in a module of this package.

Only the process that runs a contestant imports its module, with that contestant's Python: so
these modules need NumPy and the contestant's own library, and nothing of MLOS Core but in
`synapse`.
"""

CONTESTANTS = {"synapse": ("synapse", "Synapse"), "llama.cpp": ("llamacpp", "LlamaCpp")}
