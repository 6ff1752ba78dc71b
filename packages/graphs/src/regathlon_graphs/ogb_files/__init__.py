"""The on-disk format of the Open Graph Benchmark: reading, caching, scoring."""
