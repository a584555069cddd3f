# make demo · make test · make demo-spark · make cluster-test · make bench · make wheel · make lint · make lock · make clean
# Python 3.11 or newer and make are enough to begin with; Java 17, 21 or 25 adds the Spark engines.
PYTHON ?= python3
SHELL := /bin/sh
DEMO := .venv
DEV := .venv-dev
SOURCES := setup.py pyproject.toml $(shell find causal_spark -name '*.py' -o -name '*.yml' -o -path '*/templates/*')
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint tools/constraints.txt --custom-compile-command "make lock"
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
export SPARK_LOCAL_IP ?= 127.0.0.1

.PHONY: demo demo-spark test cluster-test bench wheel lint format lock audit clean
.DELETE_ON_ERROR:

demo: $(DEMO)/ready
	$(DEMO)/bin/causal-spark demo

$(DEMO)/ready: requirements-local.lock tools/bootstrap.lock tools/environment.py setup.py
	$(PYTHON) tools/environment.py $(DEMO) requirements-local.lock

$(DEV)/ready: requirements-dev.lock tools/bootstrap.lock tools/environment.py setup.py
	$(PYTHON) tools/environment.py $(DEV) requirements-dev.lock

test: $(DEV)/ready
	$(DEV)/bin/python tests/run.py $(if $(filter 1,$(REQUIRE_SPARK)),--require-spark)

# the data of the demo, read by a real spark-submit on all cores; needs Java
demo-spark: $(DEMO)/ready dist/causal_spark.zip
	$(DEMO)/bin/python -c "from causal_spark.simulate import shop_experiment, write; write(shop_experiment(), 'out/demo-spark/data')"
	PYSPARK_PYTHON=$(CURDIR)/$(DEMO)/bin/python SPARK_CONF_DIR=$(CURDIR)/conf $(DEMO)/bin/spark-submit --master 'local[*]' \
		--driver-memory 4g --conf spark.sql.shuffle.partitions=8 --conf spark.ui.enabled=false \
		--py-files dist/causal_spark.zip jobs/experiment.py --config conf/experiment.yml \
		--set input.exposures.table=out/demo-spark/data/exposures --set input.events.table=out/demo-spark/data/events \
		--set output.path=out/demo-spark/experiment

# two executors as processes of their own, one of which gets killed
cluster-test: $(DEV)/ready
	$(DEV)/bin/python -m pytest tests/cluster -m ''

bench: $(DEV)/ready
	$(DEV)/bin/python -m benchmarks.run

wheel: dist/causal_spark.zip

# the same bytes twice: the .whl for pip and Databricks, the .zip for spark-submit --py-files
dist/causal_spark.zip: $(SOURCES) | $(DEMO)/ready
	rm -rf build dist/causal_spark*
	$(DEMO)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	rm -rf build
	cp dist/causal_spark-*.whl $@

lint: $(DEV)/ready
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

format: $(DEV)/ready
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

# the one target that needs a uv on PATH; the last line adds packages of which only the data files are read
lock:
	$(LOCK) --extra dev setup.py -o requirements-dev.lock
	printf 'causalpy==0.9.0\nmta==0.0.9\n' | $(LOCK) --no-deps --no-header - >> requirements-dev.lock
	$(LOCK) --constraint requirements-dev.lock --extra local setup.py -o requirements-local.lock
	printf 'pip\nsetuptools\nwheel\nuv\n' | $(LOCK) --constraint requirements-dev.lock - -o tools/bootstrap.lock

audit: $(DEV)/ready
	$(DEV)/bin/pip-audit --require-hashes --disable-pip -r requirements-dev.lock

clean:
	rm -rf build dist out $(DEMO) $(DEV) spark-warehouse *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
