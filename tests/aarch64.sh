#!/usr/bin/env bash
# Run by `make test-aarch64`: the engine is compiled for aarch64, and the tests that are named run there, each process emulated.
#
# Needs root, and on Debian: apt-get install debootstrap qemu-user-static gcc-aarch64-linux-gnu. A small Debian of that processor is put
# into build/aarch64/root: its packages are unpacked, and nothing of them is configured, which Python can do without. Emulated are
# the instructions, not the order in which another processor sees the stores: that is what tests/models/litmus is for.
set -euo pipefail
cd "$(dirname "$0")/.."

RELEASE=bookworm                # its Python must be of the same minor version as the one that runs setup.py
MINOR=3.11
PYTHON=${PYTHON:?the interpreter that compiles}
HERE=$PWD/build/aarch64
ROOT=$HERE/root
BINFMT=/proc/sys/fs/binfmt_misc

for tool in debootstrap qemu-aarch64-static aarch64-linux-gnu-gcc unshare; do
    command -v "$tool" > /dev/null || { echo "needs $tool: apt-get install debootstrap qemu-user-static gcc-aarch64-linux-gnu"; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "needs root: for a root directory and mounts of its own"; exit 1; }
[ "$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" = $MINOR ] || { echo "needs Python $MINOR: make test-aarch64 PYTHON=..."; exit 1; }

if [ ! -e "$HERE/unpacked" ]; then
    rm -rf "$ROOT"
    debootstrap --arch=arm64 --download-only --variant=minbase --include=python$MINOR,libpython$MINOR-dev,libc6-dev,procps,util-linux \
        $RELEASE "$ROOT" > "$HERE.log"
    for package in "$ROOT"/var/cache/apt/archives/*.deb; do
        dpkg-deb -x "$package" "$ROOT"
    done
    rm -f "$ROOT"/var/cache/apt/archives/*.deb
    echo "root:x:0:0:root:/root:/bin/sh" > "$ROOT/etc/passwd"
    touch "$HERE/unpacked"
fi

# What the suite needs, as wheels of that processor.
REQUIRED='import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print("\n".join(line for lines in (project["dependencies"], *(extras[name] for name in ("lz4", "zstd", "cli", "test")))
                for line in lines if not line.startswith("tmem")))'
"$PYTHON" -c "$REQUIRED" > "$HERE/required.new"
if ! cmp -s "$HERE/required.new" "$HERE/required"; then
    rm -rf "$ROOT/site"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$ROOT/site" --python-version $MINOR --only-binary=:all: \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_28_aarch64 -r "$HERE/required.new"
    mv "$HERE/required.new" "$HERE/required"
fi

# The tree, and what Cython has made of it, under the times that they have here.
mkdir -p "$ROOT/tmem/build"
tar --exclude='*.so' --exclude=./build --exclude='./.*' --exclude=__pycache__ -cf - . | tar -C "$ROOT/tmem" -xf -
cp -rp build/c "$ROOT/tmem/build/"
printf '/site\n/tmem\n' > "$ROOT/usr/lib/python3/dist-packages/tmem.pth"

# Python's own way to compile for another machine: the settings of its build there.
mkdir -p "$HERE/settings"
cp "$ROOT/usr/lib/python$MINOR/_sysconfigdata__aarch64-linux-gnu.py" "$HERE/settings/"
(cd "$ROOT/tmem" && env \
    PYTHONPATH="$HERE/settings" _PYTHON_HOST_PLATFORM=linux-aarch64 _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__aarch64-linux-gnu \
    CC="aarch64-linux-gnu-gcc --sysroot=$ROOT" LDSHARED="aarch64-linux-gnu-gcc --sysroot=$ROOT -shared" \
    CFLAGS="-I$ROOT/usr/include/python$MINOR" "$PYTHON" setup.py --quiet build_ext --inplace)
file -L "$ROOT"/tmem/engine/verbs/core.*aarch64*.so | grep -q aarch64

# The kernel is told which program runs these, for as long as this takes.
[ -e $BINFMT/register ] || mount -t binfmt_misc binfmt_misc $BINFMT
if [ ! -e $BINFMT/qemu-aarch64 ]; then
    cat /usr/lib/binfmt.d/qemu-aarch64.conf > $BINFMT/register
    trap 'echo -1 > $BINFMT/qemu-aarch64' EXIT
fi

unshare --mount --propagation private sh -c '
    mkdir -p "$0/proc" "$0/dev" "$0/sys" "$0/tmp"
    mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys"
    exec chroot "$0" /bin/sh -c "cd /tmem && exec /usr/bin/python'$MINOR' -m pytest \"\$@\"" pytest "$@"' "$ROOT" -p no:cacheprovider "$@"
