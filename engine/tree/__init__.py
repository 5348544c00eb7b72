"""Where a page hangs: a red-black tree of objects in each bucket, a radix tree of pages in each
object, and who counts their nodes."""
