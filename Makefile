# Thin over `python -m experiments`; every target makes its own virtual environment first.
PYTHON ?= python3
PRESET ?= quick
BACKEND ?= numpy
DATA ?=
SEEDS ?=
JOBS ?=
FAST ?=
QUICK ?=
VENV := .venv$(if $(FAST),-fast)
comma := ,
EXTRAS := test$(if $(filter cupy,$(BACKEND)),$(comma)gpu)$(if $(FAST),$(comma)fast)
OPTIONS := --preset $(PRESET) --backend $(BACKEND) $(if $(DATA),--data "$(DATA)") $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

FIGURES := fig1 fig2 fig3 fig4 fig5 fig6 fig7

.PHONY: help $(FIGURES) figures steps theory claims list test bench clean
help:
	@echo "make fig1    train and draw Figure 1 into figures/ (PRESET=quick, the default, or paper, or smoke); likewise fig2 to fig7"
	@echo "make figures all seven; make list: what is done and about how long the rest takes"
	@echo "make steps   Figures 2 and 5 again with as many steps for every batch size"
	@echo "make theory  the lemmas, propositions and theorem as checks that can fail, into figures/theory.md and pictures"
	@echo "make claims  the paper's statements, each judged from what is done, into figures/claims.md"
	@echo "make test    run the test suite"
	@echo "make bench   time training against PyTorch, JAX and the matrix products alone, into figures/bench.md (QUICK=1: less)"
	@echo "make clean   remove the virtual environments; data/, results/ and figures/ stay"
	@echo "variables    PRESET BACKEND DATA SEEDS JOBS PYTHON, e.g. make fig1 PRESET=paper BACKEND=cupy SEEDS=3; FAST=1 uses Numba"

$(FIGURES) steps theory claims list: $(VENV)/ready-$(BACKEND)
	$(VENV)/bin/python -m experiments $@ $(OPTIONS)

figures: $(FIGURES)
.NOTPARALLEL:

test: $(VENV)/ready-$(BACKEND)
	$(VENV)/bin/python -m pytest

bench: .venv-bench/ready
	.venv-bench/bin/python -m experiments.bench $(if $(QUICK),--quick)

.venv-bench/ready: EXTRAS := bench

# Editable, so that a changed line is what runs; the stamp is written last, so a broken install starts anew.
$(VENV)/ready-$(BACKEND) .venv-bench/ready: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "minigrad needs Python 3.10 or newer; call make with PYTHON=/path/to/python3.10")'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

clean:
	rm -rf .venv .venv-fast .venv-bench
