"""Benchmarks: what is measured, one file each. A recipe may name one of your own, see `base.BenchmarkPlugin`."""
