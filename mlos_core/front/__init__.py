# SPDX-License-Identifier: BUSL-1.1
"""Front ends: adapters that give service and data plane to clients of other protocols."""
