"""An NPU compiler: ONNX and PyTorch models to a simulated accelerator, through the dialects graph, tile and npu."""
