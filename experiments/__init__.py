"""What the paper ran, from a command to a picture, a table or a verdict.

Read in this order: __main__, figures, runs, train, provenance, workers, store, results, plots,
report; claims, judges, statistics; theory, theory_checks; bench. The first line of each says what
it is for. Results travel as {run: (meta, arrays)}. Symbols are those of minigrad's legend.
"""

import os
import warnings

# Pictures are files. A notebook's MPLBACKEND, which its commands inherit, may not be importable.
os.environ["MPLBACKEND"] = "agg"
# Some BLAS libraries, Apple's for one, raise floating-point flags in products that are right.
warnings.filterwarnings("ignore", ".*encountered in matmul", RuntimeWarning)
