"""The compiled tier: a decoded program as native code (LLVM, through llvmlite), with the same bits
as the plain one.
"""
