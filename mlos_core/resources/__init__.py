# SPDX-License-Identifier: BUSL-1.1
"""What the machine has and who may use how much of it: processors, memory, GPUs."""
