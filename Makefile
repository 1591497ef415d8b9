# Thin over `python -m experiments`; every target makes its own virtual environment first.
PYTHON ?= python3
PRESET ?= quick
BACKEND ?= numpy
DATA ?=
SEEDS ?=
JOBS ?=
STACK ?=
FAST ?= 1
QUICK ?=
SET ?=
CLUSTER ?=
KNOWN := PYTHON PRESET BACKEND DATA SEEDS JOBS STACK FAST QUICK SET CLUSTER
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out $(KNOWN) MAKE%,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error $(UNKNOWN) is no variable of this Makefile, which has $(KNOWN); settings go into SET, as in SET="lam=1e-4")
endif
ifeq ($(filter numpy cupy,$(BACKEND)),)
$(error BACKEND must be numpy or cupy, got $(BACKEND))
endif
VENV := .venv$(if $(filter 0,$(FAST)),-plain)
comma := ,
EXTRAS := test$(if $(filter cupy,$(BACKEND)),$(comma)gpu)
READY := $(VENV)/installed-$(BACKEND) $(if $(filter-out 0,$(FAST)),$(VENV)/numba)
# What is set is passed on, and a command that doesn't take it says so.
SELECTION := --preset $(PRESET) $(if $(SEEDS),--seeds $(SEEDS)) $(foreach setting,$(SET),--set "$(setting)")
BACK := $(if $(filter-out numpy,$(BACKEND)),--backend $(BACKEND))
FROM := $(if $(DATA),--data "$(DATA)")
AT_ONCE := $(if $(JOBS),--jobs $(JOBS)) $(if $(STACK),--stack $(STACK))
THERE := $(if $(CLUSTER),--cluster "$(CLUSTER)")

FIGURES := fig1 fig2 fig3 fig4 fig5 fig6 fig7
NORMALIZED := fig2 fig3 fig4 fig6 fig7
TRUE := $(NORMALIZED:%=%-true)
STANDARD := $(NORMALIZED:%=%-standard)

.PHONY: help $(FIGURES) $(TRUE) $(STANDARD) figures figures-true figures-standard norms control descent moving theory claims ranks published list test bench clean
help:
	@echo "make fig1    train and draw Figure 1 into figures/ (PRESET=quick, the default, or night, paper, smoke); likewise fig2 to fig7"
	@echo "make fig2-true, fig2-standard   Figure 2 with the true gradient, with standard batch norm; likewise 3, 4, 6 and 7"
	@echo "make figures, figures-true, figures-standard   all of them; make list: what is done and about how long the rest takes"
	@echo "make norms   the column eta = 0.01 of Figure 2 under four readings of batch norm"
	@echo "make control batch size, or number of steps and decay budget?"
	@echo "make descent does gradient descent lower the rank, as SGD does? (night and paper: 20 hours of one core)"
	@echo "make moving  do the networks of Figure 1 go on moving? Call it before fig1, whose runs with weight decay it trains too (night: 127 hours of one core)"
	@echo "make theory  the lemmas, propositions and theorem as checks that can fail, into figures/theory.md and pictures"
	@echo "make claims  the paper's statements, each judged from what is done, into figures/claims.md"
	@echo "make ranks   what Figure 2's ranks mean: counted at other cutoffs, from what is done, into figures/ranks.png and ranks.md"
	@echo "make published   what results/ has of a preset, into experiments/published/, with a page that says what computed it"
	@echo "make test    run the test suite"
	@echo "make bench   time training against PyTorch, JAX and the matrix products alone, into figures/bench.md (QUICK=1: less)"
	@echo "make clean   remove the virtual environments; data/, results/ and figures/ stay"
	@echo "variables    PRESET (smoke, quick, night, paper) BACKEND DATA SEEDS JOBS STACK PYTHON, e.g. make fig1 PRESET=paper SEEDS=1; FAST=0 leaves Numba out"
	@echo '             STACK=4: so many runs are trained side by side, at most; without it one, on a GPU as many as fit'
	@echo '             CLUSTER=ADDRESS of a Dask scheduler, or local: where figures are trained'
	@echo '             SET changes settings: make fig2 SET="lam=1e-4 B=16,64"'

$(FIGURES) $(TRUE) $(STANDARD) norms control descent moving theory claims ranks published list: $(READY) $(if $(CLUSTER),$(VENV)/cluster)
	$(VENV)/bin/python -m experiments $@ $(SELECTION) $(BACK) $(FROM) $(AT_ONCE) $(THERE)

figures: $(FIGURES)
figures-true: $(TRUE)
figures-standard: $(STANDARD)
.NOTPARALLEL:

test: $(READY) $(VENV)/cluster
	$(VENV)/bin/python -m pytest

bench: .venv-bench/installed
	.venv-bench/bin/python -m experiments.bench $(if $(QUICK),--quick)

.venv-bench/installed: EXTRAS := bench

# Editable, so that a changed line is what runs; the stamp is written last, so a broken install starts anew.
$(VENV)/installed-$(BACKEND) .venv-bench/installed: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "minigrad needs Python 3.10 or newer; call make with PYTHON=/path/to/python3.10")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

# Half the time of a small batch. Everything works without it, so where it can't be had the next call tries again.
.venv/numba: setup.cfg | .venv/installed-$(BACKEND)
	@.venv/bin/python -m pip install --quiet --retries 0 --timeout 10 --editable ".[fast]" 2>/dev/null && touch $@ || \
	echo "Numba can't be installed here: going on without it, up to twice as slowly (FAST=0 leaves it out)"

# Without it the tests of clusters are skipped, and --cluster says that it is missing.
$(VENV)/cluster: setup.cfg | $(VENV)/installed-$(BACKEND)
	@$(VENV)/bin/python -m pip install --quiet --retries 0 --timeout 10 --editable ".[cluster]" 2>/dev/null && touch $@ || \
	echo "distributed can't be installed here: going on without it"

clean:
	rm -rf .venv .venv-plain .venv-bench
