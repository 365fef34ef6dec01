# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl top`: a live view of models, versions and workers."""
