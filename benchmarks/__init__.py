"""How fast the experiment job is, beside two floors and its peers on the same data: ``python -m benchmarks.run``."""
