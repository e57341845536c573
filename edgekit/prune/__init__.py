"""Structured channel pruning of Keras and ONNX networks: channels, selection, surgery, repair, recovery."""
