# SPDX-License-Identifier: BUSL-1.1
"""Policy of the LLM engine: who is computed when, and which token is taken.

`Engine` is the way in; it needs an executor, which computes, and a text side.
"""

from mlos_core.synapse.engine.engine import Engine
from mlos_core.synapse.engine.faces import SIGNATURE, Executor
from mlos_core.synapse.engine.scheduler import Limits

__all__ = ["SIGNATURE", "Engine", "Executor", "Limits"]
