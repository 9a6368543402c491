# Everything a developer or an operator runs here. `make demo` and `make test` work on a fresh
# machine.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PROMPT ?=

.PHONY: setup demo demo-openai test test-clients test-again test-long test-quiet test-compiled faults fuzz soak check static lint types audit protos protos-released stubs-fresh generated generated-fresh models test-quick train train-draft bench bench-one-stream bench-distance bench-strategies bench-free-text bench-grammar bench-lookups bench-pushing bench-rounds bench-dispatch bench-growth bench-quantized bench-overload bench-vllm bench-quick charts clean

setup: $(VENV)/.ready

# A terminal shows how far pip is.
PIP_INSTALL = PIP_CONSTRAINT=constraints.txt $(VENV)/bin/pip install --disable-pip-version-check $$(test -t 2 || echo --quiet)

$(VENV)/.ready: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable '.[cli,server,gateway,quanto,hqq,gguf,peft,tracing,dev]'
	touch $@

# A conversation with a real model, which is fetched once (93 MB), and how fast transformers and
# foredraft give its answers: some three minutes. PROMPT='...' asks your own.
demo: setup
	$(RUN) -m demo.run $(if $(PROMPT),--prompt "$$PROMPT")
export PROMPT

# The OpenAI API: a draft, a target and the gateway SMG, and a conversation over HTTP: a minute.
# ARGS=--stay leaves it running. The gateway has an environment of its own (154 MB).
demo-openai: setup .venv-smg/.ready
	$(RUN) -m demo.openai_api $(ARGS)

.venv-smg/.ready: demo/smg/requirements.txt
	test -d .venv-smg || $(PYTHON) -m venv .venv-smg
	.venv-smg/bin/pip install --quiet --disable-pip-version-check --no-deps -r demo/smg/requirements.txt
	touch $@

PYTEST := $(RUN) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20

# All tests but the long ones: some twenty minutes on two cores.
test: setup
	$(PYTEST)

# What failed in the last run, once more and alone, as CPython does it (regrtest --rerun): a test of
# clocks that passes now met a busy machine, and is told. What is promised of texts gets no second
# chance.
test-again: setup
	! grep '"tests/exactness/' .pytest_cache/v/cache/lastfailed
	$(RUN) -m pytest --last-failed --last-failed-no-failures none -m 'long or not long' -v
	@echo 'The tests above failed beside others, and passed alone.'

# Clients of the OpenAI API, and programs that speak it, through a real gateway: some six minutes.
# They have an environment of their own, which takes 1.4 GB.
test-clients: setup .venv-clients/.ready
	.venv-clients/bin/python -W ignore -m pytest -W default --confcutdir tests/clients tests/clients

.venv-clients/.ready: tests/clients/requirements.txt
	test -d .venv-clients || $(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/clients/requirements.txt
	touch $@

# Tests that start no service and count no law: less than a minute on two cores.
test-quick: setup
	$(PYTEST) tests/unit tests/sdk tests/test_architecture.py tests/test_documents.py

# What takes minutes: laws of 200,000 texts, the services installed as their images are, the
# benchmarks in short, a crowd of callers.
test-long: setup
	$(PYTEST) -m 'long and not quiet'

# The exactness tests with traced layers: some fifteen minutes.
test-compiled: setup
	FOREDRAFT_TESTS_COMPILE=on $(PYTEST) tests/exactness

# The bars of load, which hold on cores that do nothing else: a minute.
test-quiet: setup
	$(RUN) -m pytest -m quiet

# Everything at random for a quarter of an hour: strategies, cancels, deadlines, poisons, readers
# that stop, drafts that die. SOAK_S=60 makes it a minute, SOAK_SEED repeats a run.
soak: setup
	SOAK_S=$(or $(SOAK_S),900) $(RUN) -m pytest -m long tests/soak

# Bytes at random, guided by coverage, to what decodes and checks messages: a minute for each of
# three doors; FUZZ_S=600 makes it ten.
fuzz: setup
	FUZZ_S=$(or $(FUZZ_S),60) $(RUN) -m pytest -m 'long or not long' tests/hostile/test_fuzz.py

# Every fault of drafts, links, targets and disks, and the table of what callers noticed: some ten
# minutes.
faults: setup
	$(RUN) -m pytest -m 'long or not long' tests/faults

# What a change has to pass: format, lint, types, generated files, tests.
check: static test

static: lint types generated-fresh stubs-fresh

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

# Keeps the wire of this version, which later ones are compared with; for the release alone.
protos-released: setup
	rm -f protos/released/*
	PATH="$$PWD/.tools/node_modules/.bin:$$PATH" buf build protos --exclude-source-info \
	    --output protos/released/$$($(RUN) -c 'import foredraft; print(foredraft.__version__)').binpb

stubs-fresh: .venv-protos/.ready
	rm -rf build/stubs && mkdir -p build/stubs && protos/generate build/stubs
	diff --recursive --exclude=__pycache__ --exclude=__init__.py build/stubs/foredraft/v1 client/foredraft/v1

# Known vulnerabilities of the versions in constraints.txt, by pip-audit: half a minute.
audit: setup .venv-audit/.ready
	$(RUN) -m deploy.audit $(ARGS)

.venv-audit/.ready: deploy/audit/requirements.txt
	test -d .venv-audit || $(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check --no-deps -r deploy/audit/requirements.txt
	touch $@

# What is made from tables: generation fields (GenerationConfig, generation.proto, docs/fields.md),
# the blocking client, and metrics (docs/metrics.md, the dashboard, the PrometheusRule). `make
# protos` makes the stubs then.
generated: setup
	$(RUN) client/generate_fields.py
	$(RUN) client/generate_blocking.py
	$(RUN) -m deploy.monitoring.generate

# The table of model kinds, docs/model-kinds.md: a minute on two cores.
models: setup
	$(RUN) -W ignore -m tests.model_kinds

generated-fresh: setup
	$(RUN) client/generate_fields.py --check
	$(RUN) client/generate_blocking.py --check

# Trains the bundled pair again: some 40 minutes on one core.
train: setup
	$(RUN) demo/train.py --out demo/models

# Trains the draft of the real model again, and says what it reached: some 18 minutes on one core.
train-draft: setup
	$(RUN) demo/train_draft.py

# One stream, distance, strategies and quantized caches: some three hours on two idle cores;
# ARGS=--write keeps the results.
bench: bench-one-stream bench-distance bench-strategies bench-quantized

# Beside transformers, one stream at a time: two hours, half of it to find the best options.
bench-one-stream: setup
	$(RUN) -m benchmarks.one_stream $(ARGS)

# A draft behind a network, waited for or pushing ahead: about 25 minutes.
bench-distance: setup
	$(RUN) -m benchmarks.distance $(ARGS)

# Every strategy beside transformers' own, alone and eight at once: some ten minutes.
bench-strategies: setup
	$(RUN) -m benchmarks.strategies $(ARGS)

# Free text of the real model with its draft and without: a minute.
bench-free-text: setup
	$(RUN) -m benchmarks.free_text $(ARGS)

# JSON of the real model under schemas, with forced tokens and without: two minutes.
bench-grammar: setup
	$(RUN) -m benchmarks.grammar $(ARGS)

# N-grams that a target looks up by itself against plain decoding: two minutes.
bench-lookups: setup
	$(RUN) -m benchmarks.lookups $(ARGS)

# Pushing as foredraft chooses beside waiting, on targets of 15, 30 and 60 ms: five minutes.
bench-pushing: setup
	$(RUN) -m benchmarks.pushing $(ARGS)

# A round next to its forward pass alone, at one stream and at sixteen: under three minutes.
bench-rounds: setup
	$(RUN) -m benchmarks.rounds $(ARGS)

# What a step costs the host, with layers as they are and traced: a minute.
bench-dispatch: setup
	$(RUN) -m benchmarks.dispatch $(ARGS)

# How a step grows with context, rows, draft length and vocabulary: some five minutes.
bench-growth: setup
	$(RUN) -m benchmarks.growth $(ARGS)

# What a quantized cache takes, costs and changes: three minutes.
bench-quantized: setup
	$(RUN) -W ignore -m benchmarks.quantized $(ARGS)

# Four times the load that saturates, and a clean caller beside dear ones: some five minutes.
bench-overload: setup
	$(RUN) -m benchmarks.overload $(ARGS)

# A real model, served, beside vLLM's CPU build, served, and beside transformers: some ten minutes.
# vLLM has an environment of its own, which takes 2.4 GB.
bench-vllm: setup .venv-vllm/.ready
	$(RUN) -W ignore -m benchmarks.beside_vllm $(ARGS)

.venv-vllm/.ready: benchmarks/vllm/requirements.txt
	test -d .venv-vllm || $(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/vllm/requirements.txt
	.venv-vllm/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda and "this needs the CPU build of torch")'
	touch $@

# The charts of the committed results; a benchmark that writes its results draws them, too.
charts: setup
	$(RUN) -m benchmarks.chart

# The same in a few minutes: that everything runs, no figures worth telling.
bench-quick: setup
	$(RUN) -m benchmarks.one_stream --quick

clean:
	rm -rf $(VENV) .venv-audit .venv-protos .venv-clients .venv-smg .venv-vllm build
