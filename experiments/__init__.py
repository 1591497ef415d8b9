"""What the paper ran, from a command to a picture, a table or a verdict.

A figure's way, from top to bottom; results travel as {run: result}:

    __main__, commands, options   the command line: what each command does, and what can be said
    figures     the paper's figures and our own as rows of a table; presets: how much of them is run
    plans       a figure under a preset and settings: its runs, and the picture of their results
    runs        Run: everything that determines a run's numbers, and nothing else
    runner      train what is missing: `train` is the whole experiment as one loop
    state       a run under way: how it begins, is measured and is stored
    stacks      runs trained side by side, for a GPU
    parallel    runs spread over processes; cluster: over the workers of a Dask cluster, if their meeting
                finds them fit for it
    samples     a data set as a run takes it
    store       one run, one file, whole or absent; schema: what it must hold; provenance: what computed it;
                locks: who is at work on it
    results     what is read off a stored run: how a rank is counted, whether it learned
    captions    words on pictures
    looks       how lines and marks look, and what a legend says of it; marks: where a line leaves its panel
    plots       numbers in, a picture out; knows no figure and no file
    traces      the same for points whose colour and marker say something of them
    layout      a page of panels, with its heading and its legends
    files       pictures and tables as files that appear together or not at all

Besides, verdicts has the statements that claims (the paper's, judged from the store, trends by statistics)
and theory (its lemmas and theorems, tried) are made of; ranks shows what the ranks of Figure 2 mean; bench
measures speed; publish puts what a store has into published, which has what was run. What each file or folder
may import stands in a table in tests/test_structure.py.

A new figure is a row of FIGURES in figures.py, and its name in the Makefile and in tests/test_figures.py. A
new claim is a judge in the folder claims, under its Statement and with its rule as docstring; CLAIMS there
lists it. A run that diverges is stored as "diverged" with its numbers up to there, is drawn with a cross at
its last finite value, counts as not learned, and never has a rank of 0. What has not learned is grey.
"""
