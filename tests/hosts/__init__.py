"""Owns the suites of the libraries that the adapters are for, run with the adapters in place of
what those suites test there. Nothing of theirs lies here: it is fetched when the check runs."""
