"""Policies as files that run without Keras: ONNX, PyTorch, TensorFlow, LiteRT."""

from keras_agalite.export.process import export_policy as export_policy
