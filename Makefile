# `make demo` and `make test` do all the set-up themselves.
PYTHON ?= python3
DATA ?=

.PHONY: demo bench notebooks stages docs clean
demo: .venv-demo/ready
	.venv-demo/bin/python -m numcodecs_crackle.demo $(DATA)

# About twenty minutes; QUICK=1 for a first look, which is printed and not kept.
bench: .venv-bench/ready
	.venv-bench/bin/python -m benchmarks $(if $(DATA),--data $(DATA)) $(if $(QUICK),--quick)

# Executed anew, in place, where anything changes.
notebooks: .venv/ready
	.venv/bin/python notebooks/run.py

# Where the time goes in a stream of your own (.ckl), by stage; x86-64.
stages:
	mkdir -p build
	$(CC) -O3 -std=c11 -D_GNU_SOURCE -o build/stages benchmarks/stages.c \
		$(filter-out csrc/decode.c csrc/encode.c,$(wildcard csrc/*.c))
	build/stages $(DATA)

# The site: build/docs/index.html. Nothing is fetched but the packages it is built with.
SITE := .venv-docs
docs: $(SITE)/ready
	$(SITE)/bin/sphinx-build -q -W --keep-going -c docs . build/docs

SOURCES := $(wildcard csrc/*) $(wildcard *.py) pyproject.toml
EXTRAS := test
.venv-bench/ready: EXTRAS := bench
.venv-demo/ready: EXTRAS := cli
.venv-docs/ready: EXTRAS := docs
$(addsuffix /ready,.venv .venv-bench .venv-demo .venv-docs .venv-fuzz): $(SOURCES)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --upgrade pip setuptools
	$(@D)/bin/python -m pip install -q -e '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf .venv .venv-* build dist *.egg-info numcodecs_crackle/_crackle*

include fuzz/fuzz.mk packaging.mk
