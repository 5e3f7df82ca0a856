"""Functions between dequantize and quantize, in fixed point: a module per function."""
