"""Owns the codecs: bytes of a page to fewer bytes, and back; and what to install for each.

Any thread may be here, with no lock held. What is unpacked comes from shared memory and may be
anything: a codec answers with other bytes or an exception, and takes no more memory than the length
that it is told.
"""
import importlib
import threading

from engine.errors import TmemError


def _package(module, extra):
    """A module of an optional package. TmemError that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TmemError(
            f"pam {extra!r} needs a package that is not installed: pip install 'tmem[{extra}]' ({error})"
        ) from error


class Lz4:
    """LZ4 blocks without the length. Packs slowly (for LZ4) and unpacks as fast as any; level 3 of
    12, since all above it gain less than one page in a hundred."""

    LEVEL = 3

    def __init__(self):
        self.block = _package("lz4.block", "lz4")

    def pack(self, page):
        """The page, compressed."""
        return self.block.compress(page, mode="high_compression", compression=self.LEVEL, store_size=False)

    def unpack(self, data, length):
        """The page of `length` bytes that was packed."""
        return self.block.decompress(data, uncompressed_size=length)


class Zstd(threading.local):
    """Zstandard frames without magic number, length and checksum. One context a thread, since a
    context serves one call at a time."""

    LEVEL = 5       # of 22: what is above it takes longer than it gains; what is below holds fewer pages
    SMALL = 16384   # bytes of a page: up to here zstd has other parameters for the level
    LARGE = 65536
    HUGE = 1 << 20  # and the parameters of this size for all that is longer
    HEADER = 0      # the frame header's first byte: no length, no checksum, no dictionary

    def __init__(self):
        self.zstd = _package("zstandard", "zstd")
        self.small = self._compressor(self.SMALL)
        self.large = self._compressor(self.LARGE)
        self.huge = self._compressor(self.HUGE)
        self.decompressor = self.zstd.ZstdDecompressor(format=self.zstd.FORMAT_ZSTD1_MAGICLESS)

    def _compressor(self, size):
        return self.zstd.ZstdCompressor(compression_params=self.zstd.ZstdCompressionParameters.from_level(
            self.LEVEL, source_size=size, format=self.zstd.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=False, write_checksum=False, write_dict_id=False))

    def pack(self, page):
        """The page, compressed."""
        size = len(page)
        return (self.small if size <= self.SMALL else self.large if size <= self.LARGE else self.huge).compress(page)

    def unpack(self, data, length):
        """The page of `length` bytes that was packed."""
        if data[0] != self.HEADER:
            raise ValueError("not a frame of this codec")       # such a frame says itself how much memory to take
        return self.decompressor.decompress(data, max_output_size=length, allow_extra_data=False)


CODECS = {"lz4": Lz4, "zstd": Zstd}
