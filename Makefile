# Thin over `python -m experiments`; the first call makes a virtual environment.
PYTHON ?= python3
PRESET ?= quick
BACKEND ?= numpy
comma := ,
KNOWN := PYTHON PRESET BACKEND DATA RESULTS SEEDS JOBS STACK ENGINE SET CLUSTER
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
ifneq ($(filter-out $(KNOWN) MAKE%,$(GIVEN)),)
$(error $(filter-out $(KNOWN) MAKE%,$(GIVEN)): no such variable, known are $(KNOWN); a field goes into SET="lam=1e-4")
endif
ifeq ($(filter numpy cupy,$(BACKEND)),)
$(error BACKEND must be numpy or cupy, got $(BACKEND))
endif
FIGURES := fig1 fig2 fig3 fig4 fig5 fig6 fig7 spectra
TRUE := $(foreach n,fig2 fig3 fig4 fig6 fig7 spectra,$n-true)
STANDARD := $(foreach n,fig2 fig3 fig4 fig6 fig7 spectra,$n-standard)
RUN := .venv/bin/python -m experiments
# All that is given is passed on; a command that doesn't take it says so.
OPTIONS := --preset $(PRESET) $(if $(SEEDS),--seeds $(SEEDS)) $(foreach setting,$(SET),--set "$(setting)") \
	$(if $(RESULTS),--results "$(RESULTS)") $(if $(DATA),--data "$(DATA)") $(if $(JOBS),--jobs $(JOBS)) \
	$(if $(STACK),--stack $(STACK)) $(if $(ENGINE),--engine $(ENGINE)) \
	$(if $(CLUSTER),--cluster "$(CLUSTER)") $(if $(filter cupy,$(BACKEND)),--backend cupy)
READY := .venv/installed-$(BACKEND) .venv/numba

.PHONY: help $(FIGURES) $(TRUE) $(STANDARD) norms control descent theory claims list test bench clean
.NOTPARALLEL:
help:
	@echo "make fig1      train and draw Figure 1 into figures/; likewise fig2 to fig7"
	@echo "make fig2-true, fig2-standard   with the true gradient, with standard batch norm; likewise 3, 4, 6, 7"
	@echo "make spectra   Figure 2's ranks at other cutoffs; likewise spectra-true and spectra-standard"
	@echo "make norms, control, descent    four variants of batch norm; batch size or steps?; gradient descent"
	@echo "make theory    the memo's lemmas and theorems, tried"
	@echo "make claims    the memo's claims, judged from stored runs"
	@echo "make list      what is done, and how long the rest takes; make test, bench, clean"
	@echo "variables      PRESET=smoke, quick, night or paper; SEEDS=3, JOBS=2, DATA=folder, RESULTS=folder,"
	@echo '               SET="lam=1e-4 B=16,64", ENGINE=reference, BACKEND=cupy, STACK=4, CLUSTER=address, PYTHON=python3'

$(FIGURES) $(TRUE) $(STANDARD) norms control descent theory claims list: $(READY) $(if $(CLUSTER),.venv/cluster)
	$(RUN) $@ $(OPTIONS)

fig%: $(READY)  # no such figure: the command names those that there are
	$(RUN) $@

test: $(READY) .venv/cluster
	.venv/bin/python -m pytest

bench: $(READY) .venv/bench
	.venv/bin/python -m experiments.bench

.venv/installed-$(BACKEND): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "minigrad needs Python 3.10 or newer: PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable ".[test$(if $(filter cupy,$(BACKEND)),$(comma)gpu)]" || \
	{ echo "The packages of setup.cfg could not be installed: pip needs the network once."; exit 1; }
	touch $@

# Optional: training is slower, or tests are skipped. The next call tries again.
.venv/numba .venv/cluster: setup.cfg | .venv/installed-$(BACKEND)
	@.venv/bin/python -m pip install --quiet --retries 0 --timeout 10 --editable ".[$(@F)]" 2>/dev/null && touch $@ || \
	echo "$(@F) can't be installed here: going on without it"

.venv/bench: setup.cfg | .venv/installed-$(BACKEND)
	.venv/bin/python -m pip install --quiet --editable ".[bench]"
	touch $@

clean:
	rm -rf .venv
