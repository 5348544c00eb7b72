"""Owns what tells the place that bytes come from apart from every other one, in all processes."""
import hashlib


def digest(*words):
    """A short key. What a place is made with may be secret, and is not to be read in the arena."""
    return hashlib.sha256(repr(words).encode("utf-8", "surrogatepass")).digest()


def text_of(fs):
    """Which file system of fsspec this is: a text, and whether it is one of this process alone, as
    files in memory are, which a fork copies. (None, True): nothing tells it in another process."""
    inner = fs
    while (behind := getattr(inner, "fs", getattr(inner, "sync_fs", None))) is not None:
        inner = behind
    try:
        text = fs.to_json()
    except Exception:           # some option is an object of this process
        return None, True
    if inner.protocol != "memory":
        return text, False
    return f"{text} {id(inner.store)}", True
