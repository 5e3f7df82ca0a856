"""The demonstration: a small network trained on real images, quantized, compiled, simulated and
compared.
"""
