"""The benchmark of `tmem bench`: every operation against a raw memoryview copy of a random page, in interleaved rounds.

`cases` holds the loops that are timed, `measure` the rounds and the figures, `tables` the Markdown. Calls the public API of
`engine`, and `posix_ipc` for the raw mapping. Called by `stress.commands`.
"""
