# Developer targets; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.DELETE_ON_ERROR:

PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
WHEELS := roles/engine/files
NAME ?= site
export DISTCLOUD_LAB ?= site
export PATH := $(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
SOURCES := $(shell find services/src services/pyproject.toml -type f -not -name '*.pyc' 2>/dev/null)
BECOME = $$([ "$$(id -u)" = 0 ] || sudo -kn true 2>/dev/null || echo --ask-become-pass)

.PHONY: help site demo test test-fast test-long lint docs status lab lab-down bench requirements artifact clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1|/' | while IFS='|' read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done

site: $(VENV)/.ready ## deploy the lab and a complete site on it; ends with a status page and tables
	@ansible-playbook $(BECOME) playbooks/lab.yml playbooks/site.yml
	distcloud report show build/$(DISTCLOUD_LAB)/summary.json
	echo 'The page: $(CURDIR)/build/$(DISTCLOUD_LAB)/index.html'

demo: $(VENV)/.ready ## run the demonstration jobs again and show where they ran
	@ansible-playbook $(BECOME) playbooks/demo.yml playbooks/status.yml -e demo_again=true
	distcloud report show build/$(DISTCLOUD_LAB)/summary.json

status: $(VENV)/.ready ## show the state of the running site as tables
	@mkdir -p build; ansible-playbook playbooks/status.yml >build/status.log 2>&1 || { cat build/status.log; exit 1; }
	distcloud report show build/$(DISTCLOUD_LAB)/summary.json

lab: $(VENV)/.ready ## deploy only the lab: regions and hosts
	@ansible-playbook $(BECOME) playbooks/lab.yml

lab-down: $(VENV)/.ready ## remove the lab and everything that it created on this machine
	@ansible-playbook $(BECOME) playbooks/lab_down.yml

test: $(VENV)/.ready-test ## run everything that CI runs
	@$(BIN)/python tests/run.py all

test-fast: $(VENV)/.ready-test ## run the tests that need no lab: unit tests and linters
	@$(BIN)/python tests/run.py fast

test-long: $(VENV)/.ready-test ## run the long tests
	@$(BIN)/python tests/run.py long

lint: $(VENV)/.ready-test ## check style and types of the Python and Ansible code
	@$(BIN)/python tests/run.py lint

docs: $(VENV)/.ready-test ## check the documentation and build the reference into build/docs
	@$(BIN)/python tests/run.py docs

bench: $(VENV)/.ready-test ## run a benchmark: make bench NAME=site|plan [ARGS=...]
	@mkdir -p build/bench; $(BIN)/python bench/$(NAME).py $(ARGS)

artifact: $(VENV)/.ready ## build the collection as an installable file
	@mkdir -p build; ansible-galaxy collection build --force --output-path build

requirements: $(VENV)/.ready-test ## resolve the pinned requirements again
	@$(BIN)/python requirements/resolve.py

clean: ## remove build results of this checkout (not the lab or its caches)
	rm -rf build $(VENV) .ansible services/dist $(WHEELS)/*.whl

# System packages of the lab; uses sudo unless run as root.
$(VENV)/.system: requirements/system.txt
	@bash requirements/system.sh
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.control: $(VENV)/.system requirements/control.txt
	@echo 'Installing the control node (Ansible and its collections) into $(VENV)'
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/control.txt
	touch $@

# The collection contains the engines' wheel. It is installed here too, because the control node matches ClassAds with it.
$(VENV)/.ready: $(VENV)/.control $(SOURCES)
	@rm -f $(WHEELS)/distcloud-*.whl
	mkdir -p $(WHEELS) build .collections/ansible_collections/hep
	SOURCE_DATE_EPOCH=1577836800 $(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEELS) ./services
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall $(WHEELS)/distcloud-*.whl
	ln -sfn ../../.. .collections/ansible_collections/hep/distcloud
	touch $@

# System packages that only the tests need.
$(VENV)/.system-test: $(VENV)/.system requirements/system-test.txt
	@bash requirements/system.sh system-test.txt
	touch $@

$(VENV)/.ready-test: $(VENV)/.ready $(VENV)/.system-test requirements/test.txt
	@echo 'Installing the test tools into $(VENV)'
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/control.txt -r requirements/test.txt
	touch $@
