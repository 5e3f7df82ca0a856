"""What lies between dequantize and quantize, done in integers: a module per kind of operation."""
