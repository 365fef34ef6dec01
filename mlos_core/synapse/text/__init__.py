# SPDX-License-Identifier: BUSL-1.1
"""Everything between text and token ids for one model.

`TextModel` is the way in. Nothing here touches a tensor; the libraries behind it are loaded
when a model first needs them.
"""

from mlos_core.synapse.text.detokenize import Detokenizer
from mlos_core.synapse.text.grammar import Matcher
from mlos_core.synapse.text.model import TextModel
from mlos_core.synapse.text.stop import StopChecker
from mlos_core.synapse.text.structured import StructuredSpec
from mlos_core.synapse.text.tools import ToolCall, ToolParser

__all__ = [
    "Detokenizer",
    "Matcher",
    "StopChecker",
    "StructuredSpec",
    "TextModel",
    "ToolCall",
    "ToolParser",
]
