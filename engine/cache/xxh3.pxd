# Owns the hash of a key: XXH3-128 of at most 128 bytes, with a seed (Yann Collet, xxHash 0.8.2, as
# the package has it), written out because the package can only be called with Python objects, which
# takes longer than a get. Longer keys go there; tests compare the two at every length.

from libc.string cimport memcpy
from shm.layout cimport u64

cdef extern from *:
    ctypedef unsigned long long u128 "unsigned __int128"

cdef enum:
    SHORT_KEY = 128         # bytes of the longest key that is hashed here

cdef inline u64 read64(const char *at) noexcept nogil:
    cdef u64 found
    memcpy(&found, at, 8)
    return found

cdef inline u64 read32(const char *at) noexcept nogil:
    cdef unsigned int found
    memcpy(&found, at, 4)
    return found

cdef inline u64 swap32(u64 x) noexcept nogil:
    return (x & 0xFF) << 24 | (x & 0xFF00) << 8 | (x >> 8 & 0xFF00) | (x >> 24 & 0xFF)

cdef inline u64 swap64(u64 x) noexcept nogil:
    return swap32(x & 0xFFFFFFFFu) << 32 | swap32(x >> 32)

cdef inline u64 avalanche(u64 h) noexcept nogil:
    h = (h ^ h >> 37) * 0x165667919E3779F9u
    return h ^ h >> 32

cdef inline u64 avalanche64(u64 h) noexcept nogil:
    # That of XXH64.
    h = (h ^ h >> 33) * 0xC2B2AE3D27D4EB4Fu
    h = (h ^ h >> 29) * 0x165667B19E3779F9u
    return h ^ h >> 32

cdef inline u64 mix16(const char *at, u64 one, u64 two, u64 seed) noexcept nogil:
    cdef u128 product = <u128>(read64(at) ^ (one + seed)) * (read64(at + 8) ^ (two - seed))
    return <u64>product ^ <u64>(product >> 64)

cdef inline void mix32(u64 *acc, const char *near, const char *far, u64 one, u64 two, u64 three, u64 four,
                       u64 seed) noexcept nogil:
    acc[0] = (acc[0] + mix16(near, one, two, seed)) ^ (read64(far) + read64(far + 8))
    acc[1] = (acc[1] + mix16(far, three, four, seed)) ^ (read64(near) + read64(near + 8))

cdef inline void hash_1_to_3(const char *data, u64 length, u64 seed, u64 *out) noexcept nogil:
    cdef u64 low = (
        <u64><unsigned char>data[0] << 16 | <u64><unsigned char>data[length >> 1] << 24
        | <u64><unsigned char>data[length - 1] | length << 8
    )
    cdef u64 high = swap32(low)
    high = (high << 13 | high >> 19) & 0xFFFFFFFFu
    out[0] = avalanche64(low ^ (0x87275A9Bu + seed))
    out[1] = avalanche64(high ^ (0x302C208Bu - seed))

cdef inline void hash_4_to_8(const char *data, u64 length, u64 seed, u64 *out) noexcept nogil:
    cdef u128 product
    cdef u64 low
    cdef u64 high
    seed ^= swap32(seed & 0xFFFFFFFFu) << 32
    product = <u128>((read32(data) | read32(data + length - 4) << 32) ^ (0xC4F023344DC994ACu + seed)) * (
        0x9E3779B185EBCA87u + (length << 2))
    low = <u64>product
    high = <u64>(product >> 64) + (low << 1)
    low ^= high >> 3
    low = (low ^ low >> 35) * 0x9FB21C651E98DF25u
    out[0] = low ^ low >> 28
    out[1] = avalanche(high)

cdef inline void hash_9_to_16(const char *data, u64 length, u64 seed, u64 *out) noexcept nogil:
    cdef u64 last = read64(data + length - 8)
    cdef u128 product = <u128>(read64(data) ^ last ^ (0x59973F0033362349u - seed)) * 0x9E3779B185EBCA87u
    cdef u64 low = <u64>product + ((length - 1) << 54)
    cdef u64 high = <u64>(product >> 64)
    last ^= 0xC202797692D63D58u + seed
    high += last + (last & 0xFFFFFFFFu) * 0x85EBCA76u
    low ^= swap64(high)
    product = <u128>low * 0xC2B2AE3D27D4EB4Fu
    out[0] = avalanche(<u64>product)
    out[1] = avalanche(<u64>(product >> 64) + high * 0xC2B2AE3D27D4EB4Fu)

cdef inline void hash_17_to_128(const char *data, u64 length, u64 seed, u64 *out) noexcept nogil:
    cdef u64 acc[2]
    cdef const char *end = data + length
    acc[0] = length * 0x9E3779B185EBCA87u
    acc[1] = 0
    if length > 96:
        mix32(acc, data + 48, end - 64, 0x3F349CE33F76FAA8u, 0x1D4F0BC7C7BBDCF9u,
              0x3159B4CD4BE0518Au, 0x647378D9C97E9FC8u, seed)
    if length > 64:
        mix32(acc, data + 32, end - 48, 0xCB00C391BB52283Cu, 0xA32E531B8B65D088u,
              0x4EF90DA297486471u, 0xD8ACDEA946EF1938u, seed)
    if length > 32:
        mix32(acc, data + 16, end - 32, 0x78E5C0CC4EE679CBu, 0x2172FFCC7DD05A82u,
              0x8E2443F7744608B8u, 0x4C263A81E69035E0u, seed)
    mix32(acc, data, end - 16, 0xBE4BA423396CFEB8u, 0x1CAD21F72C81017Cu,
          0xDB979083E96DD4DEu, 0x1F67B3B7A4A44072u, seed)
    out[0] = avalanche(acc[0] + acc[1])
    out[1] = 0 - avalanche(
        acc[0] * 0x9E3779B185EBCA87u + acc[1] * 0x85EBCA77C2B2AE63u + (length - seed) * 0xC2B2AE3D27D4EB4Fu)

cdef inline void hash_short(const char *data, u64 length, u64 seed, u64 *out) noexcept nogil:
    # The lower and the upper word of the hash of at most SHORT_KEY bytes.
    if length > 16:
        hash_17_to_128(data, length, seed, out)
    elif length > 8:
        hash_9_to_16(data, length, seed, out)
    elif length > 3:
        hash_4_to_8(data, length, seed, out)
    elif length > 0:
        hash_1_to_3(data, length, seed, out)
    else:
        out[0] = avalanche64(seed ^ 0x682E908A3037F8B4u)
        out[1] = avalanche64(seed ^ 0x9655D30BD1A77D49u)
