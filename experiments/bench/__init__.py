"""make bench: minigrad, PyTorch, JAX and the machine's limit side by side, in turns, one thread each.

All contestants take the step of Eq. 2 with momentum on CIFAR-10's shape, and agree on it before anything is
timed. Reading order: problem, contestants, measurements, norms, processes, table; __main__ is the command.
"""
# No import here: it comes before __main__ can say what the libraries are to read.
