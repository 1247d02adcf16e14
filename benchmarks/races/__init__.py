"""What `benchmarks/run.py` measures: what twinrank does, in turns with its peers."""
