"""A browser on this machine as a device: ONNX files by the user's onnxruntime-web, in a page of its own for each session."""
