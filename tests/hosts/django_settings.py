"""Owns the settings under which Django's tests run: a cache of ours as the default."""
import os

DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}
CACHES = {"default": {"BACKEND": "tmem.django.TmemCache", "LOCATION": os.environ["TMEM_ARENA"]}}
SECRET_KEY = "no secret"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
