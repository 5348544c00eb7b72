"""What the guests of each scenario do; one module each, named by the scenario's `workload`.

A module has `prepare(eng, plan)` (pools, before the crew starts) and `guest(g)` (the loop of one
process, see `worker.Guest`), and may have `tick(run)` (called by the supervisor while the crew
works) and `verdict(run)` (called after it: more checks, and the facts of the report). All of them
call the public API of `engine` only.
"""
