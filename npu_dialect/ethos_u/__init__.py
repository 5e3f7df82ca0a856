"""The arrays of Arm's Ethos-U55 and Ethos-U65: `cycles` of blocks, and the `walk` over them."""
