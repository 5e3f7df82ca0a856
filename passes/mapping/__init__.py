"""The mapper: how a fused group is cut into tiles, judged by the cost functions that the simulator
uses.
"""
