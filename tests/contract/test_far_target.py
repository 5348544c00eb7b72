"""Owns what a target of servers says, and what it must not say."""
import os

import pytest

from engine.far.target import Target, credentials_of, target_of


@pytest.mark.parametrize("text, said", [
    ("valkey://h", Target((("h", 6379),), False)),
    ("redis://h:1,h2:2/", Target((("h", 1), ("h2", 2)), False)),
    ("valkey://[::1]:7,10.0.0.1", Target((("::1", 7), ("10.0.0.1", 6379)), False)),
    ("rediss://h?ca=/c", Target((("h", 6379),), True, ca="/c")),
    ("valkey://h?tls=1&cert=/a&key=/b", Target((("h", 6379),), True, cert="/a", key="/b")),
    ("valkey://h,h?ttl=0&timeout=1.5s&wait=2&client=redis&auth=/x", Target(
        (("h", 6379),), False, ttl=0, timeout=1500, wait=2, client="redis", auth="/x")),
    ("valkey://h?ttl=2d", Target((("h", 6379),), False, ttl=2 * 86400 * 1000)),
])
def test_what_a_target_says(text, said):
    assert target_of(text) == said


@pytest.mark.parametrize("text, word", [
    ("valkey://", "hosts"), ("valkey:///x", "hosts"), ("valkey://h/path", "hosts"), ("valkey://h:0", "hosts"),
    ("valkey://h:70000", "hosts"), ("valkey://h,,g", "hosts"), ("valkey://a b", "hosts"), ("valkey://h#f", "hosts"),
    ("valkey://user:secret@h", "auth="), ("valkey://h?ttl=5", "ttl"), ("valkey://h?ttl=1ms", "ttl"),
    ("valkey://h?timeout=0ms", "timeout"), ("valkey://h?timeout=2h", "timeout"), ("valkey://h?timeout=", "timeout"),
    ("valkey://h?wait=-1", "wait"), ("valkey://h?wait=x", "wait"), ("valkey://h?client=jedis", "client"),
    ("valkey://h?ca=c.pem&tls=1", "ca"), ("valkey://h?ca=/c.pem", "tls"), ("valkey://h?tls=1&cert=/a", "cert"),
    ("rediss://h?tls=0", "tls"), ("valkey://h?tls=maybe", "tls"), ("valkey://h?size=5GiB", "size"),
])
def test_what_it_must_not_say(text, word):
    with pytest.raises(ValueError, match="far: ") as told:
        target_of(text)
    assert word in str(told.value) and "secret" not in str(told.value)


def test_where_the_password_comes_from(tmp_path, monkeypatch):
    monkeypatch.delenv("TMEM_FAR_AUTH", raising=False)
    target = target_of("valkey://h")
    assert credentials_of(target) is None
    for text, found in (("me:pass:word", ("me", "pass:word")), ("word", (None, "word")), (":a:b", (None, "a:b"))):
        monkeypatch.setenv("TMEM_FAR_AUTH", text)
        assert credentials_of(target) == found
    secret = tmp_path / "secret"
    secret.write_text("you:other\n")
    secret.chmod(0o600)
    assert credentials_of(target_of(f"valkey://h?auth={secret}")) == ("you", "other")
    for mode in (0o640, 0o604):
        secret.chmod(mode)
        with pytest.raises(ValueError, match="chmod 600"):
            credentials_of(target_of(f"valkey://h?auth={secret}"))
    secret.chmod(0o600)
    secret.write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        credentials_of(target_of(f"valkey://h?auth={secret}"))
    os.unlink(secret)
    with pytest.raises(OSError):
        credentials_of(target_of(f"valkey://h?auth={secret}"))
