# SPDX-License-Identifier: BUSL-1.1
"""Everything between text and token ids for one model.

`TextModel` is the way in. Nothing here touches a tensor; the libraries behind it are loaded
when a model first needs them.
"""

from mlos_core.synapse.text.detokenize import Detokenizer
from mlos_core.synapse.text.model import TextModel
from mlos_core.synapse.text.stop import StopChecker

__all__ = ["Detokenizer", "StopChecker", "TextModel"]
