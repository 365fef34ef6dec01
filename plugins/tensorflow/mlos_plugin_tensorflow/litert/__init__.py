# SPDX-License-Identifier: BUSL-1.1
"""`.tflite` models through LiteRT, without TensorFlow."""
