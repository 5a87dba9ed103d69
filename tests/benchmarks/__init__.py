"""The benchmarks: they name their peers and print no time of wrong numbers."""
