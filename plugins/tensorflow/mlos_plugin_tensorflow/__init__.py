# SPDX-License-Identifier: BUSL-1.1
"""TensorFlow, Keras and LiteRT models in MLOS Core.

Nothing is imported here: either plugin must load without the other's framework.
"""
