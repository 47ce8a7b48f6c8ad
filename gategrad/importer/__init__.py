"""Models made elsewhere: ONNX, QDQ and QONNX, to networks of layers."""
