"""The benchmark of `tmem bench`: this engine against a raw memoryview copy and against other
stores, in interleaved rounds.

`measure` owns the order of it all. `cases` holds the loops of this engine against the raw copy;
`contest` what one process does with every store, `workers` what several do, `caches` what is kept
under keys, `room` memory and many small objects, each through `peers`, one file a store; `rounds`
what these share; `snapshots` saves and restores. `limits` holds what was wanted, `tables` the
Markdown, `plots` the pictures. Calls the public API of `engine`, and `posix_ipc` for the raw
mapping.
"""
