# SPDX-License-Identifier: BUSL-1.1
