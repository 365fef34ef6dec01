# SPDX-License-Identifier: BUSL-1.1
"""axon: the model package manager.

model = axon_client.install("pypi/magika@1.0.3")
model.path, model.manifest, model.model_file()
"""

from __future__ import annotations

from axon_client.installer import install
from axon_client.models import InstalledModel
from axon_client.store import Store

__all__ = ["InstalledModel", "Store", "install"]
