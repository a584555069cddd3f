"""The package ``causal_spark``: what it needs and carries, its console script. Tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """The version written in ``causal_spark/__init__.py``, read without importing the package."""
    text = (HERE / "causal_spark" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError('causal_spark/__init__.py has no line __version__ = "..."')
    return found.group(1)


def readme() -> str:
    """The README, when it is there (it is not in every source tree that gets built)."""
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# Spark is not among the requirements: a wheel that asks for pyspark stops Databricks serverless, which brings its own.
REQUIRES = [
    "numpy>=2.0",
    "scipy>=1.13",
    "pandas>=2.2,<3",
    "pyarrow>=18",
    "pyyaml>=6",
    "jinja2>=3.1",
    "matplotlib>=3.9",
    "rich>=13",
    "mlflow-skinny>=3.0",
]
# pysail 0.7 accepts pyspark 4.0 to 4.2. mlflow asks for mlflow-skinny and mlflow-tracing of exactly its own version,
# and these come out later than mlflow: raise the upper bound only when all three are there.
LOCAL = [
    "pyspark[connect]>=4.1,<4.3",
    "pysail>=0.7,<0.8",
    "mlflow>=3.17.2,<3.18",
]
BOOSTED = ["scikit-learn>=1.4"]
DEV = [
    *LOCAL,
    *BOOSTED,
    "pytest>=8",
    "hypothesis>=6",
    "statsmodels>=0.14",
    "causaldata>=0.1.4",
    "lifelines>=0.30",
    "tea-tasting>=1.0",
    "duckdb>=1.1",
    "ruff>=0.12",
    "mypy>=1.16",
    "pandas-stubs",
    "types-PyYAML",
    "import-linter>=2.5",
    "pre-commit>=4",
    "build>=1.2",
    "setuptools>=77",
    "wheel>=0.43",
    "pip-audit>=2.7",
    "uv>=0.8",
]

setup(
    name="causal-spark",
    version=version(),
    description="Causal inference on Spark: what really moved the number",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["causal_spark", "causal_spark.*"]),
    package_data={
        "causal_spark": ["py.typed"],
        "causal_spark.words": ["*.yml"],
        "causal_spark.templates": ["*.yml"],
        "causal_spark.report": ["templates/*"],
    },
    install_requires=REQUIRES,
    extras_require={"local": LOCAL, "dev": DEV, "boosted": BOOSTED},
    entry_points={"console_scripts": ["causal-spark = causal_spark.cli:console"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Information Analysis",
        "Typing :: Typed",
    ],
    zip_safe=True,
)
