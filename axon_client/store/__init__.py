# SPDX-License-Identifier: BUSL-1.1
"""The content-addressed store of installed models; see `axon_client.store.store`."""

from axon_client.config import default_home
from axon_client.store.collect import Freed
from axon_client.store.stage import Stage
from axon_client.store.store import Store, spec_of

__all__ = ["Freed", "Stage", "Store", "default_home", "spec_of"]
