# The commands of the project. `make test` and `make stress` each set up all they need first.
# Another interpreter: make test PYTHON=python3.12

PYTHON     ?= python3.11
VENV       ?= .venv
BIN        := $(VENV)/bin
JOBS       ?= auto
ARGS       ?=
EXTRAS     ?= all

# What decides how to install and build, and what is compiled: a change in the first installs anew, a change in the
# second compiles what it touches, anything else needs neither.
SETTINGS := pyproject.toml setup.py Makefile
SOURCES  := $(shell find engine shm -name '*.pxd') $(shell find engine shm -name '*.py' | xargs grep -lw cython)
INSTALLED := $(VENV)/installed
BUILT     := $(VENV)/built
PEERS     := $(VENV)/peers
HOSTS     := build/hosts/venv
DOCS      := build/docs/venv
# The build requirements, read from where they are declared.
BUILD_REQUIRES = import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))

# Hundreds of children of the tests import the same: none compiles it anew, though the environment may ask for that.
export PYTHONDONTWRITEBYTECODE :=

ASAN_TREE  := build/asan
ASAN_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
ASAN_ENV    = LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
              ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc

.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-pythons test-aarch64 hosts docs stress bench bench-far bench-far-servers lint check-dist asan clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  PYTHON=python3.12  another interpreter   ARGS='...'  passed on to test, stress, bench and asan"

setup: $(BUILT)  ## create .venv and build in place; done again only as far as something changed

# Without build isolation: Cython then stays the same from build to build, and only what changed is compiled.
$(INSTALLED): $(SETTINGS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "needs Python 3.11 or later: make PYTHON=...")'
	@$(BIN)/python -c '$(BUILD_REQUIRES)' > $(VENV)/build-requires.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(VENV)/build-requires.txt
	@rm -rf tmem.egg-info     # of an earlier build: its entry points would hide those of this one
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[$(EXTRAS)]'
	@touch $@

$(BUILT): $(INSTALLED) $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

test: $(BUILT)  ## run the test suite (ARGS='tests/crash -k fork')
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

# Nothing is left out, and nothing ends early: about two hours.
test-all: export EVERY_POINT = 1
test-all: export EVERY_INSTRUCTION = 1
test-all: export MODELS_LONG = 1
test-all: $(BUILT)  ## run the suite with every kill point, every instruction, every pair of verbs, every search
	$(BIN)/python -m pytest -n $(JOBS) --timeout 7200 $(ARGS)

test-pythons:  ## run tests/contract, crash and conformance on every Python that is found (ARGS='--only 3.13')
	$(PYTHON) tests/pythons.py $(ARGS)

# What the extra `hosts` asks for, each extra of ours in it taken apart.
HOSTS_REQUIRE = import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
  print(*(need for said in extras["hosts"] for need in (sum(map(extras.get, said[5:-1].split(",")), []) \
  if said.startswith("tmem[") else [said]) if "tmem[" not in need), sep="\n")

# An environment $(1) of its own, on top of the project's: what is in that one is here, too.
define on_top
$(BIN)/python -m venv $(1)
@$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' \
  > $$($(1)/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth
endef

# The plug-ins of pytest that the hosts' suites want are not for ours.
$(HOSTS)/installed: $(BUILT)
	$(call on_top,$(HOSTS))
	@$(BIN)/python -c '$(HOSTS_REQUIRE)' \
	  > build/hosts/requires.txt
	$(HOSTS)/bin/python -m pip install --quiet --disable-pip-version-check -r build/hosts/requires.txt
	@touch $@

hosts: $(HOSTS)/installed  ## run the adapters' tests and pages, and their libraries' suites (ARGS='cachelib limits')
	PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 $(HOSTS)/bin/python -m pytest -p xdist -p timeout -n $(JOBS) -q tests/adapters tests/docs
	$(HOSTS)/bin/python -m tests.hosts.run $(ARGS)

$(DOCS)/installed: $(BUILT)
	$(call on_top,$(DOCS))
	@$(BIN)/python -c 'import tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
	  print(*(need for need in extras["docs"] if "tmem[" not in need), sep="\n")' > build/docs/requires.txt
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r build/docs/requires.txt
	@touch $@

docs: $(DOCS)/installed  ## build the site of the documents into build/docs/site; a link that leads nowhere ends it
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict $(ARGS)

AARCH64_TESTS := tests/contract tests/conformance tests/crash/test_dead_holder.py tests/crash/test_heirs.py

test-aarch64: $(BUILT)  ## cross-build for aarch64 and run a part of the suite emulated (Debian, root)
	PYTHON=$(CURDIR)/$(BIN)/python tests/aarch64.sh -n $(JOBS) -q --timeout 900 $(or $(ARGS),$(AARCH64_TESTS))

stress: $(BUILT)  ## run every stress scenario; every byte read is verified; its report is build/stress/report.html
	$(BIN)/tmem stress --out build/stress $(ARGS)

# A store that cannot be installed is reported by the benchmark as absent.
$(PEERS): $(BUILT)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[bench]' \
	  || echo "not every store could be installed"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation -e '.[pylibmc]' \
	  || echo "pylibmc could not be installed"
	@touch $@

bench: $(BUILT) $(PEERS)  ## run the benchmarks against the raw copy and other stores
	$(BIN)/tmem bench $(ARGS)

bench-far: $(BUILT)  ## measure far tiers against the disk (ARGS=a folder of it; build/)
	$(BIN)/python -m stress.bench.far $(or $(ARGS),build)

bench-far-servers: $(BUILT)  ## measure far tiers against a client library's own calls (ARGS=valkey://host:6379)
	$(BIN)/python -m stress.bench.farservers $(ARGS)

lint: $(BUILT)  ## ruff over all source, mypy over the public interface
	$(BIN)/ruff check .
	$(BIN)/mypy --strict engine/__init__.pyi engine/cli/commands.py tests/cli/typed_usage.py
	$(BIN)/mypy stress

DIST_TESTS := tests/conformance $(patsubst %,tests/contract/test_%.py,pages pools ranges batches views buffers codecs forks crews)

check-dist: $(BUILT)  ## sdist -> wheel -> import in a fresh environment, and a part of the suite there
	rm -rf build/dist && mkdir -p build/dist
	$(BIN)/python -c 'from setuptools import build_meta; build_meta.build_sdist("build/dist")' > build/dist/sdist.log
	$(PYTHON) -m venv build/dist/venv
	build/dist/venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-deps -w build/dist build/dist/tmem-*.tar.gz
	build/dist/venv/bin/python -m pip --disable-pip-version-check install --quiet build/dist/tmem-*.whl
	cd build/dist && venv/bin/python $(CURDIR)/tests/cli/wheel_check.py
	# The tests alone, without the source beside them: what they import is the wheel.
	build/dist/venv/bin/python -m pip --disable-pip-version-check install --quiet "$$(ls build/dist/tmem-*.whl)[test]"
	mkdir build/dist/suite && cp -r tests pyproject.toml build/dist/suite
	cd build/dist/suite && ../venv/bin/python -m pytest -q -n $(JOBS) $(DIST_TESTS)

asan: $(BUILT)  ## run the suite on a build with the address and undefined-behaviour sanitizers (separate tree)
	mkdir -p $(ASAN_TREE)
	tar --exclude='*.so' --exclude=./build --exclude='./.*' --exclude='*.egg-info' -cf - . | tar -C $(ASAN_TREE) -xf -
	CFLAGS="$(ASAN_FLAGS)" LDFLAGS="-fsanitize=address,undefined" $(MAKE) -C $(ASAN_TREE) setup PYTHON=$(PYTHON)
	# The models are searches by spin: nothing of ours runs in them.
	cd $(ASAN_TREE) && $(ASAN_ENV) .venv/bin/python -m pytest -n $(JOBS) --timeout 600 --ignore tests/models $(ARGS)

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find engine shm stress tests \( -name '*.so' -o -name __pycache__ \) -prune -exec rm -rf {} +
