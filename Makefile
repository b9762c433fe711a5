# make demo: from nothing but Python to a restored video.   make test: every check there is, with the pinned versions.
# make matrix: a fresh installation on every Python that is here, with the newest and the lowest versions of all else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TYPING := build/typing
SOAK ?= 3m

.PHONY: demo test fuzz signals soak lint matrix clean

demo: .demo/installed
	.demo/venv/bin/python -m uir.tools.demo .demo

.demo/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .demo/venv
	.demo/venv/bin/pip install --quiet --constraint constraints.txt --editable .
	touch $@

# Training has a process of its own: in that of all other tests it has crashed, alone it never has.
test: lint
	$(BIN)/python -m pytest --ignore-glob '*/test_train*.py'
	$(BIN)/python -m pytest tests/tools/test_train*.py

# Hostile packages and adapters, one seed after another, until it is stopped. Each failure is printed with its seed.
fuzz: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m fuzz

# Signals to real commands at random moments, and how each ended.
signals: $(VENV)/installed
	$(BIN)/python tests/signals/storm.py --number 228

# Compositions that change each second: memory, threads and files must stay what they are. For hours: make soak SOAK=2h
soak: $(VENV)/installed
	mkdir -p build
	$(BIN)/uir-export --preset ten --output build/soak.uir --overwrite
	for device in openvino cpu; do \
	    UIR_MEMORY=$${UIR_MEMORY:-256MiB} $(BIN)/uir-bench soak --package build/soak.uir --device $$device --time $(SOAK) || exit 1; \
	done

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# The rooms become one namespace through links, which mypy can follow.
	rm -rf $(TYPING) && mkdir -p $(TYPING)/uir
	ln -s $(foreach room,runtime calibration export tools,$(CURDIR)/$(room)) $(TYPING)/uir/
	MYPYPATH=$(TYPING) $(BIN)/mypy -p uir.runtime -p uir.calibration -p uir.export -p uir.tools

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

matrix: .matrix/bin/uv
	UV=$(CURDIR)/$< $(PYTHON) scripts/matrix.py

.matrix/bin/uv:
	$(PYTHON) -m venv .matrix
	.matrix/bin/pip install --quiet uv

clean:
	rm -rf .venv .demo .matrix build *.egg-info
