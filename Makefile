# Two environments: .venv holds TensorFlow, JAX and TF-Agents, .venv-torch holds torch
# (TF-Agents pins a typing-extensions that torch cannot use). .venv-lint holds linters,
# .venv-ray torch and Ray (whose RLlib pins gymnasium).
PYTHON ?= python3.11
VENV ?= .venv
VENV_TORCH ?= .venv-torch
VENV_LINT ?= .venv-lint
VENV_RAY ?= .venv-ray
# Other people's environments, with JAX; any of them runs in VENV as well.
VENV_ENVIRONMENTS ?= .venv-environments
# The CPU build where wheels of it are at hand; any torch that Keras runs on will do.
TORCH ?= torch==2.13.0

export TF_CPP_MIN_LOG_LEVEL ?= 3
# Exports of one environment's backend are made by the other's interpreter.
export EXPORT_PYTHON_TENSORFLOW ?= $(abspath $(VENV))/bin/python
export EXPORT_PYTHON_TORCH ?= $(abspath $(VENV_TORCH))/bin/python
# Processes among which a suite's files are dealt: whole, since tests of a file share
# what they compile. Those that start programs share nothing, and are dealt one by one.
WORKERS ?= 2
DEAL = loadfile
PYTEST = -m pytest -q -n $(WORKERS) --dist $(DEAL)
# The rings of tests (docs/contributing.md): what no backend changes runs on JAX alone,
# what starts programs in test-processes.
RING = not slow and not process
# What XLA compiles for TensorFlow's tests is kept beside the version that it is of.
test-%: export TF_XLA_FLAGS ?= --tf_xla_persistent_cache_directory=$(abspath $(VENV))/xla
SITE = $(shell $(VENV)/bin/python -c "import site; print(site.getsitepackages()[0])")

.PHONY: setup setup-environments setup-ray train test test-all test-jax test-tensorflow \
	test-torch test-torch-driver test-processes test-environments test-ray lint clean

setup: $(VENV)/ready $(VENV_TORCH)/ready $(VENV_LINT)/ready

$(VENV)/ready: pyproject.toml training/requirements.txt
	rm -rf $(VENV)/xla
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e ".[tensorflow,jax,litert,tf-agents,test]" \
	-r training/requirements.txt
	touch $@

$(VENV_TORCH)/ready: pyproject.toml training/requirements.txt
	$(PYTHON) -m venv $(VENV_TORCH)
	$(VENV_TORCH)/bin/pip install -q "$(TORCH)"
	$(VENV_TORCH)/bin/pip install -q -e ".[torch,onnx,test]" \
	-r training/requirements.txt
	touch $@

$(VENV_LINT)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV_LINT)
	$(VENV_LINT)/bin/pip install -q ruff mypy
	touch $@

REQUIREMENTS = training/requirements
# Those whose first line says so.
NO_DEPS = $(shell grep -l -e --no-deps $(REQUIREMENTS)/*.txt)

setup-environments: $(VENV_ENVIRONMENTS)/ready

$(VENV_ENVIRONMENTS)/ready: pyproject.toml $(wildcard $(REQUIREMENTS)/*.txt)
	$(PYTHON) -m venv $(VENV_ENVIRONMENTS)
	$(VENV_ENVIRONMENTS)/bin/pip install -q -e ".[jax,test]" \
	$(addprefix -r ,$(filter-out $(NO_DEPS),$(wildcard $(REQUIREMENTS)/*.txt)))
	$(VENV_ENVIRONMENTS)/bin/pip install -q --no-deps $(addprefix -r ,$(NO_DEPS))
	touch $@

setup-ray: $(VENV_RAY)/ready

$(VENV_RAY)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV_RAY)
	$(VENV_RAY)/bin/pip install -q "$(TORCH)"
	$(VENV_RAY)/bin/pip install -q -e ".[rllib,test]"
	touch $@

train: $(VENV)/ready
	$(VENV)/bin/python -m training train training/recipes/tmaze_10.toml

test: lint test-jax test-tensorflow test-torch test-torch-driver

test-all: test test-processes test-environments test-ray

lint: $(VENV)/ready $(VENV_LINT)/ready
	$(VENV_LINT)/bin/ruff check .
	$(VENV_LINT)/bin/ruff format --check .
	$(VENV_LINT)/bin/mypy --python-executable $(VENV)/bin/python

test-jax: $(VENV)/ready $(VENV_TORCH)/ready
	KERAS_BACKEND=jax $(VENV)/bin/python $(PYTEST) -m "$(RING)" tests

test-tensorflow: $(VENV)/ready $(VENV_TORCH)/ready
	KERAS_BACKEND=tensorflow $(VENV)/bin/python $(PYTEST) -m "$(RING) and not once" tests

test-torch: $(VENV)/ready $(VENV_TORCH)/ready
	KERAS_BACKEND=torch $(VENV_TORCH)/bin/python $(PYTEST) -m "$(RING) and not once" tests

# TF-Agents cannot be installed beside torch, so its driver is borrowed.
test-torch-driver: $(VENV)/ready $(VENV_TORCH)/ready
	KERAS_BACKEND=torch $(VENV_TORCH)/bin/python -c "import sys; \
	sys.path.append('$(SITE)'); import pytest; sys.exit(pytest.main(sys.argv[1:]))" \
	-q tests/integrations

# Kills, workers, exports, wheels, the README's programs.
test-processes:
	$(MAKE) test-jax test-tensorflow test-torch RING="process and not slow" DEAL=worksteal

# The zoo's policies act in their environments on every backend; TensorFlow and torch
# borrow the packages. Memory Maze draws with EGL (Debian's libegl1) or OSMesa.
BORROWED = $(shell $(VENV_ENVIRONMENTS)/bin/python -c "import site; \
	print(site.getsitepackages()[0])")
ZOO_TESTS = tests/environments/test_zoo_policies.py

test-environments: $(VENV)/ready $(VENV_TORCH)/ready $(VENV_ENVIRONMENTS)/ready
	KERAS_BACKEND=jax $(VENV_ENVIRONMENTS)/bin/python $(PYTEST) \
	-m "environments and not slow" tests/environments tests/training/test_evaluate.py \
	tests/training/test_minari.py
	KERAS_BACKEND=tensorflow PYTHONPATH=$(BORROWED) $(VENV)/bin/python $(PYTEST) \
	-m "not slow and not once" --dist worksteal $(ZOO_TESTS)
	KERAS_BACKEND=torch PYTHONPATH=$(BORROWED) $(VENV_TORCH)/bin/python $(PYTEST) \
	-m "not slow and not once" --dist worksteal $(ZOO_TESTS)

# Tests that start Ray do so in a network of loopback alone, or are skipped.
test-ray: $(VENV_RAY)/ready
	KERAS_BACKEND=torch $(VENV_RAY)/bin/python -m pytest -q -m "not slow" \
	tests/integrations/test_rllib.py

clean:
	rm -rf $(VENV) $(VENV_TORCH) $(VENV_LINT) $(VENV_ENVIRONMENTS) $(VENV_RAY) runs
