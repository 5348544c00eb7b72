"""The stress harness and the benchmarks of tmem: guests that verify every byte they read.

Owns nothing at run time. Calls the public API of `engine`, never `shm`.
"""
