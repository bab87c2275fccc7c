"""What several benchmarks share: reading files, comparing answers, lines in other languages, the harness."""
