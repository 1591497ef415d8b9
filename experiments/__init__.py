"""What the paper ran, from a command to a picture, a table or a verdict.

Read in this order; results travel as {run: (meta, arrays)}:

    __main__    the command line
    figures     the paper's figures and our own as rows of a table: their runs, their pictures
    runs        Run: everything that determines a run's numbers, and nothing else
    train       the whole experiment as one loop: train, measure, checkpoint, resume
    provenance  the versions and the machine that compute a run's numbers; no part of its key
    workers     train what is missing, in processes here or on a Dask cluster
    store       one run, one file, whole or absent
    results     numbers of a stored run: its history, how a rank is counted
    plots       numbers in, a picture out
    report      Markdown, CSV and pictures as files
    claims      the paper's claims, judged from stored runs by judges (with statistics)
    theory      the paper's lemmas and theorems, tried by theory_checks
    spectra     counts of Figure 2's ranks at several cutoffs
    bench       speed and training beside PyTorch and JAX

A new figure is a row of FIGURES in figures.py and its name in the Makefile.
"""

import os
import warnings

# Pictures are files. A notebook's MPLBACKEND, which its commands inherit, may not be importable.
os.environ["MPLBACKEND"] = "agg"
# Some BLAS libraries, Apple's for one, raise floating-point flags in products that are right.
warnings.filterwarnings("ignore", ".*encountered in matmul", RuntimeWarning)
