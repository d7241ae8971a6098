# What people and checks run. Every target works from nothing: no .venv, no built extension, root or not.
#   make demo   install, run the quickstart without a browser, show the sweep's best trial
#   make lab    open the notebooks in JupyterLab
#   make test   everything the checks run; says all that is red
#   make test-ray   the engine contract on a real Ray, in an environment of its own (minutes; not a part of make test)
#   make bench  the table of benchmarks
#   make soak   what takes too long for every change: kills, many more cases, and ten minutes of everything at once
# Variables: PYTHON (3.10 or newer), VENV (.venv), CHROMIUM, REDIS_SERVER (paths of a Chromium, a Redis), PIP_ARGS (passed to every pip
# install, for instance an index with the torch build you want; README "Choosing torch"), BENCH_ARGS (--quick, --rows).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
SOAK_MINUTES ?= 10
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || echo /usr/bin/chromium)
REDIS_SERVER ?= $(shell command -v redis-server || echo /usr/bin/redis-server)
QUICKSTART := notebooks/01_quickstart.ipynb

BIN := $(abspath $(VENV))/bin
# -qq: only errors. The Lab extension must be there: demo and test show it.
PIP := RAYBOOK_LABEXTENSION=$${RAYBOOK_LABEXTENSION:-require} $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt $(PIP_ARGS)
LAB_SOURCES := $(shell find labextension/src labextension/style labextension/schema -type f) \
  $(addprefix labextension/,package.json yarn.lock tsconfig.json .yarnrc.yml install.json build_hook.py build_cell.mjs)
INSTALL_SOURCES := pyproject.toml constraints.txt $(LAB_SOURCES) \
  $(wildcard kernel_ext/jupyter-config/jupyter_server_config.d/*.json)

# Fast and pure first, so that a red run is red early; suites not named here run after these.
SUITE_ORDER := architecture base core protocol sim contracts packaging api behaviours integration many_nodes libs kernel widgets
SUITES_FOUND := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/test_*.py))))
SUITES := $(filter $(SUITES_FOUND),$(SUITE_ORDER)) $(filter-out $(SUITE_ORDER) browser,$(SUITES_FOUND))
# Those that run beside the others; the libraries have a target of their own.
SUITES_BESIDE := many_nodes kernel widgets
# The longer ones of those that start no process and open no socket: two at a time.
PURE_SUITES := core sim
# A shell's background jobs ignore interrupts, and so do their children: tests that interrupt need them back.
LISTENING = $(BIN)/python -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])'
PYTEST = $(BIN)/python -m pytest -q -m "not soak"
# What notebooks and JupyterLab are run with: this environment's own settings, no person's.
NBVAL := -p nbval.plugin --nbval-lax --nbval-current-env --nbval-cell-timeout=120 -o timeout=180

.PHONY: help install demo lab test test-ray engine-table lint types suites libs notebooks $(SUITES_BESIDE) browser leftovers chromium sshd redis bench soak chaos clean

help:
	@sed -n '2,9p' Makefile | sed 's/^# \{0,1\}//'

$(BIN)/python:
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null; \
	  else echo "raybook: $(PYTHON) cannot make virtual environments; install the package python3-venv." >&2; exit 1; fi; fi
	@echo "== making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INSTALL_SOURCES) | $(BIN)/python
	@echo "== installing raybook[all] into $(VENV) (the first time takes minutes: torch, JupyterLab)"
	@$(PIP) -e '.[all]'
	@touch $@

# The test tools bring the rest along: one installation, not two.
$(VENV)/.installed-test: $(INSTALL_SOURCES) | $(BIN)/python
	@echo "== installing raybook[all] and the test tools into $(VENV) (the first time takes minutes: torch, JupyterLab)"
	@$(PIP) -e '.[all,test]'
	@touch $(VENV)/.installed $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	@$(BIN)/python notebooks/run_headless.py $(QUICKSTART)
	@echo
	@echo "That was $(QUICKSTART), run without a browser. To run it yourself and watch it live: make lab"

lab: $(VENV)/.installed
	@$(BIN)/jupyter lab --ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/$(notdir $(QUICKSTART)) \
	  $$([ "$$(id -u)" = 0 ] && echo --allow-root)

test: $(VENV)/.installed-test chromium sshd redis
	@started=$$SECONDS; since=$$(date +%s); red=""; \
	for step in lint types suites browser; do \
	  step_started=$$SECONDS; $(MAKE) $$step || red="$$red $$step"; echo "== $$step: $$((SECONDS - step_started)) s"; done; \
	$(BIN)/python tests/leftovers.py --since $$since || red="$$red leftovers"; \
	[ -z "$$red" ] || { echo "== red:$$red"; exit 1; }; \
	echo "== all green in $$((SECONDS - started)) s"

lint: $(VENV)/.installed-test
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check --diff .

types: $(VENV)/.installed-test
	@$(BIN)/mypy --no-error-summary
	@cd labextension && said=$$(PATH="$(BIN):$$PATH" $(BIN)/jlpm run test 2>&1) || { echo "$$said"; exit 1; }

# Three lanes on two cores: each waits for processes to start and to end. What the other two say comes at the end.
# A red suite stops no other: everything that is wrong is said in one run.
suites: $(VENV)/.installed-test sshd redis
	@said=$$(mktemp -d); trap 'rm -rf "$$said"' EXIT; red=0; \
	$(LISTENING) $(MAKE) --keep-going $(SUITES_BESIDE) notebooks >"$$said/nodes" 2>&1 & nodes=$$!; \
	$(LISTENING) $(MAKE) libs >"$$said/libs" 2>&1 & libs=$$!; \
	for suite in $(filter-out libs $(SUITES_BESIDE),$(SUITES)); do echo "== tests/$$suite"; REDIS_SERVER="$(REDIS_SERVER)" $(PYTEST) \
	  $$(case " $(PURE_SUITES) " in *" $$suite "*) echo "-n 2";; esac) tests/$$suite || red=1; done; \
	wait $$nodes || red=1; echo "== beside: $(SUITES_BESIDE) notebooks"; cat "$$said/nodes"; \
	wait $$libs || red=1; echo "== beside: libs"; cat "$$said/libs"; exit $$red

# One process a library: each has clusters of its own shape.
libs: $(VENV)/.installed-test
	@red=0; $(PYTEST) tests/libs/test_*.py || red=1; \
	for library in $(sort $(patsubst %/,%,$(dir $(wildcard tests/libs/*/test_*.py)))); do \
	  echo "== $$library"; $(PYTEST) $$library || red=1; done; exit $$red

$(SUITES_BESIDE): $(VENV)/.installed-test
	@echo "== tests/$@"; REDIS_SERVER="$(REDIS_SERVER)" $(PYTEST) tests/$@

notebooks: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -q $(NBVAL) notebooks

browser: $(VENV)/.installed-test chromium
	@CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest -q tests/browser

# The browser is the distribution's: nothing is downloaded by Playwright.
chromium:
	@if ! [ -x "$(CHROMIUM)" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing chromium for the browser tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
	  else \
	    echo "raybook: the browser tests need Chromium. Install the package chromium, or set CHROMIUM to its path." >&2; \
	    exit 1; fi; fi

# The tests of `raybook up` talk to the distribution's sshd, on machines made of namespaces.
sshd:
	@if ! [ -x /usr/sbin/sshd ] || ! command -v ssh >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing openssh for the tests of clusters over ssh"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	      openssh-server openssh-client >/dev/null; \
	  else \
	    echo "raybook: the tests of clusters over ssh need openssh-server and openssh-client; install them." >&2; \
	    exit 1; fi; fi

# A real Redis for the stores of the GCS: each test starts its own at a socket of its own. RUNLEVEL=1: the package is not
# to start one for the whole machine.
redis:
	@if ! [ -x "$(REDIS_SERVER)" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "== installing redis-server for the tests of the GCS's stores"; \
	    apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null; \
	  else \
	    echo "raybook: the tests of the GCS's stores need a Redis. Install the package redis-server, or set REDIS_SERVER to its path." >&2; \
	    exit 1; fi; fi

# A real Ray, beside everything that raybook needs: its own packages come first there, ours after them. Its daemons give up
# after 15 seconds, so its modules are compiled, and its workers give way to nobody.
RAY_ENV := .venv-ray-engine
RAY_BIN := $(abspath $(RAY_ENV))/bin
WITH_RAY = env -u PYTHONDONTWRITEBYTECODE -u RAYBOOK_CONTRACT_ENGINES RAY_worker_niceness=0 \
  PYTHONPATH=$(CURDIR)/runtime:$(CURDIR)/kernel_ext:$(CURDIR)/widgets
ENGINE_RESULTS := $(RAY_ENV)/contract.json

$(RAY_ENV)/.installed: $(VENV)/.installed-test
	@echo "== installing Ray into $(RAY_ENV)"
	@$(PYTHON) -m venv --clear $(RAY_ENV)
	@$(RAY_BIN)/python -m pip install -qq --compile --disable-pip-version-check $(PIP_ARGS) 'ray[client]==2.60.0'
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  >"$$($(RAY_BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_raybook.pth"
	@touch $@

test-ray: $(RAY_ENV)/.installed
	@$(WITH_RAY) RAYBOOK_CONTRACT_RESULTS=$(CURDIR)/$(ENGINE_RESULTS) $(RAY_BIN)/python -m pytest -q tests/contracts/engines tests/libs/test_ray_engine.py

# The table in docs/engines.md, from what `make test-ray` found last.
engine-table: $(VENV)/.installed
	@$(BIN)/python tests/contracts/engines/table.py $(ENGINE_RESULTS) docs/engines.md

bench: $(VENV)/.installed
	@$(BIN)/python benchmarks/core.py $(BENCH_ARGS)

soak: $(VENV)/.installed chaos
	@$(BIN)/python benchmarks/soak.py --minutes $(SOAK_MINUTES) --report docs/soak.md $(SOAK_ARGS)

# The part of it that tests: minutes of killed workers, nodes and GCS, whatever else is marked soak, new cases of properties.
chaos: $(VENV)/.installed-test redis
	@REDIS_SERVER="$(REDIS_SERVER)" $(BIN)/python -m pytest -q -m soak -o timeout=0 tests
	@HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q -o timeout=0 tests/core tests/protocol tests/sim tests/libs

clean:
	rm -rf $(VENV) build dist labextension/lib labextension/raybook labextension/node_modules labextension/.yarn widgets/raybook_widgets/static \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis test-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
