"""The alarm itself: each setting names a planted bug and the scenario that must report it.

The supervisor runs those scenarios with the bug in front of every pool (`supervisor.run_canary`);
there is no guest here.
"""
