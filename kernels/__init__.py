"""Device code: one meaning per file, the same functions for CUDA (`cuda`) and the CPU (`cpu`).

Arrays are C-ordered float32 in the solver's layout, slice index fastest: volumes ``(z, x, y)``, stacks
``(tilt, u, y)``, vector fields ``(3, z, x, y)`` with components ``(z, x, y)``, symmetric tensors
``(6, z, x, y)`` with components ``(zz, xx, yy, zx, zy, xy)``, off-diagonal ones times sqrt(2) so that
Euclidean norm and inner product are the tensors' own.

p and q may be int16 instead, in units of the radii of their balls over `STEPS`. Fields of several channels are
``(channel, component, z, x, y)``, of `MOST_CHANNELS` at most.
"""

STEPS = 8192
PAIR, MOST_PAIRS = 12, 1 << 26  # bytes of a pair of rows that is kept on the CPU, and of all those of a direction
MOST_CHANNELS = 6
