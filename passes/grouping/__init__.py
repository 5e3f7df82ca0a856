"""Which operations become one fused nest, and the IR of it."""
