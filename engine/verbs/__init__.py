"""What every call does under a bucket's lock, or without it: put, overwrite, get, flush. Read this
floor first."""
