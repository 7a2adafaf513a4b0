"""Training of the shared encoder: base weights to an int8 ONNX version."""
