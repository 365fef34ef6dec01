# SPDX-License-Identifier: BUSL-1.1
"""The conformance suite: what every plugin must do, tried on real workers of a private daemon."""

from mlos_core.conformance.outcome import Outcome
from mlos_core.conformance.subject import Daemon, Target
from mlos_core.conformance.suite import check_plugin

__all__ = ["Daemon", "Outcome", "Target", "check_plugin"]
