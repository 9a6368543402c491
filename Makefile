# Everything a developer or an operator runs here. `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PROMPT ?=

.PHONY: setup demo test test-long test-quiet faults soak check lint types protos stubs-fresh generated generated-fresh models test-quick train bench bench-one-stream bench-distance bench-strategies bench-lookups bench-quantized bench-overload bench-quick charts clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(VENV)/bin/pip install --quiet --disable-pip-version-check torch
	PIP_CONSTRAINT=constraints.txt $(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[server,quanto,hqq,tracing,dev]'
	touch $@

# Both services and a streamed completion on the bundled pair; PROMPT='...' takes another prompt.
demo: setup
	$(RUN) demo/run.py $(if $(PROMPT),--prompt "$$PROMPT")
export PROMPT

PYTEST := $(RUN) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20

# All tests but the long ones: about ten minutes on two cores.
test: setup
	$(PYTEST)

# Tests that start no service and count no law: less than a minute on two cores.
test-quick: setup
	$(PYTEST) tests/unit tests/sdk tests/test_architecture.py tests/test_documents.py

# What takes minutes: laws of 200,000 texts, the services installed as their images are, the
# benchmarks in short, a crowd of callers.
test-long: setup
	$(PYTEST) -m 'long and not quiet'

# The bars of load, which hold on cores that do nothing else: a minute.
test-quiet: setup
	$(RUN) -m pytest -m quiet

# Everything at random for a quarter of an hour: strategies, cancels, deadlines, poisons, readers that
# stop, drafts that die. SOAK_S=60 makes it a minute, SOAK_SEED repeats a run.
soak: setup
	SOAK_S=$(or $(SOAK_S),900) $(RUN) -m pytest -m long tests/soak

# Every fault of drafts, links, targets and disks, and the table of what callers noticed: some ten
# minutes.
faults: setup
	$(RUN) -m pytest -m 'long or not long' tests/faults

# What a change has to pass: format, lint, types, generated files, tests.
check: lint types generated-fresh stubs-fresh test

lint: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: setup
	$(VENV)/bin/mypy

# The generator has an environment of its own: its version sets the lowest protobuf and grpcio that
# users of the stubs can have, see docs/architecture.md.
.venv-protos/.ready: protos/requirements.txt
	test -d .venv-protos || $(PYTHON) -m venv .venv-protos
	.venv-protos/bin/pip install --quiet --disable-pip-version-check -r protos/requirements.txt
	touch $@

protos: .venv-protos/.ready
	protos/generate client

stubs-fresh: .venv-protos/.ready
	rm -rf build/stubs && mkdir -p build/stubs && protos/generate build/stubs
	diff --recursive --exclude=__pycache__ --exclude=__init__.py build/stubs/foredraft/v1 client/foredraft/v1

# What is made from tables: generation fields (GenerationConfig, generation.proto, docs/fields.md),
# the blocking client, and metrics (docs/metrics.md, the dashboard, the PrometheusRule). `make protos` makes the stubs then.
generated: setup
	$(RUN) client/generate_fields.py
	$(RUN) client/generate_blocking.py
	$(RUN) -m deploy.monitoring.generate

# The table of model kinds, docs/models.md: a minute on two cores.
models: setup
	$(RUN) -W ignore -m tests.model_kinds

generated-fresh: setup
	$(RUN) client/generate_fields.py --check
	$(RUN) client/generate_blocking.py --check

# Trains the bundled pair again: some 40 minutes on one core.
train: setup
	$(RUN) demo/train.py --out demo/models

# Everything that is told of speed: more than an hour on two idle cores; ARGS=--write keeps the results.
bench: bench-one-stream bench-distance bench-strategies bench-quantized

# Beside transformers, one stream at a time.
bench-one-stream: setup
	$(RUN) -m benchmarks.one_stream $(ARGS)

# A draft behind a network, waited for or pushing ahead: some fifteen minutes.
bench-distance: setup
	$(RUN) -m benchmarks.distance $(ARGS)

# Every strategy beside transformers' own, alone and eight at once: some ten minutes.
bench-strategies: setup
	$(RUN) -m benchmarks.strategies $(ARGS)

# N-grams that a target looks up by itself against plain decoding: two minutes.
bench-lookups: setup
	$(RUN) -m benchmarks.lookups $(ARGS)

# What a quantized cache takes, costs and changes: three minutes.
bench-quantized: setup
	$(RUN) -W ignore -m benchmarks.quantized $(ARGS)

# Four times the load that saturates, and a clean caller beside dear ones: some five minutes.
bench-overload: setup
	$(RUN) -m benchmarks.overload $(ARGS)

# The charts of the committed results; a benchmark that writes its results draws them, too.
charts: setup
	$(RUN) -m benchmarks.chart

# The same in a few minutes: that everything runs, no figures worth telling.
bench-quick: setup
	$(RUN) -m benchmarks.one_stream --quick

clean:
	rm -rf $(VENV) .venv-protos build
