#!/bin/sh
# Installs vidfed from this bundle, without a network. docs/install.md says how the bundle itself is checked before this is run.
#   ./install.sh --key RELEASE.pem                       a member's machine: /opt/vidfed, user, folders, units, completion (as root)
#   ./install.sh --key RELEASE.pem --part investigator   ask only: no user, no units; with --prefix "$HOME/vidfed" for one person, without root
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd -P)
part=node prefix=/opt/vidfed key= python=
die() { echo "install.sh: $*" >&2; exit 1; }
usage() { sed -n '2,4s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
  case $1 in
    --key|--part|--prefix|--python) [ $# -ge 2 ] || die "$1 needs a value" ;;
  esac
  case $1 in
    --key) key=$2; shift ;;
    --part) part=$2; shift ;;
    --prefix) prefix=$2; shift ;;
    --python) python=$2; shift ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
case $part in node|investigator) ;; *) die "--part is node or investigator, not $part" ;; esac
case $prefix in /*[!/]) ;; *) die "--prefix must be an absolute path without a slash at its end" ;; esac
[ -n "$key" ] || die "--key is missing: the file with the public key of those you have vidfed from. It is not taken from this bundle"
[ -r "$key" ] || die "$key cannot be read"
absolute() { echo "$(cd "$(dirname "$1")" && pwd -P)/$(basename "$1")"; }
key=$(absolute "$key")
case $python in */*) python=$(absolute "$python") ;; esac
root=no; [ "$(id -u)" != 0 ] || root=yes
[ $part = investigator ] || [ $root = yes ] || die "a node is installed as root: it makes a user and units. For yourself: --part investigator --prefix ~/vidfed"

# First of all: is this what they signed, whole, and nothing beside it?
command -v openssl >/dev/null || die "openssl is missing, which checks the signature (Debian: openssl)"
cd "$here"
openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
  die "the signature on SHA256SUMS is not by the key in $key. Do not install this; call those you have it from"
sha256sum --check --strict --quiet SHA256SUMS >&2 || die "the files above are not those that were signed. Copy the bundle anew"
listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS | LC_ALL=C sort)
present=$(find . ! -type d ! -name SHA256SUMS ! -name SHA256SUMS.sig | LC_ALL=C sort)
[ "$listed" = "$present" ] || die "there are files here that nobody signed. Unpack the archive anew, into an empty folder"

fact() { sed -n "s/^$1=//p" BUNDLE; }
version=$(fact version)
[ "$(uname -m)" = "$(fact machine)" ] || die "made for $(fact machine); this machine is $(uname -m)"
glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc //')
[ -n "$glibc" ] && [ "$(printf '%s\n' "$(fact glibc)" "$glibc" | sort -V | head -1)" = "$(fact glibc)" ] ||
  die "made on a system with glibc $(fact glibc); this one has ${glibc:-none}"
serves() { for v in $(fact pythons); do [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" != "$v" ] || return 0; done; return 1; }
if [ -n "$python" ]; then
  serves "$python" || die "$python is none of Python $(fact pythons)"
else
  for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v $candidate >/dev/null && serves $candidate; then python=$candidate; break; fi
  done
  [ -n "$python" ] || die "none of Python $(fact pythons) is here (Debian: python3)"
fi
"$python" -c 'import venv' 2>/dev/null || die "$python has no module venv (Debian: python3-venv)"

# A folder for each version, and a link that names the one in use: changed in one step, and back in one.
if [ -e "$prefix" ] && [ ! -L "$prefix" ]; then die "$prefix is there and is not from a bundle. Move it away first"; fi
target=$prefix-$version-$(sha256sum SHA256SUMS | cut -c1-8)-$part
before=$(readlink "$prefix" || true)
if [ ! -e "$target/.vidfed-bundle" ]; then
  rm -rf "$target"
  trap 'rm -rf "$target"' EXIT
  trap 'exit 1' HUP INT TERM
  mkdir -p "$(dirname "$prefix")"
  echo "install.sh: vidfed $version ($part) into $target"
  extras=desk; [ $part = investigator ] || extras=desk,hsm,mysql,node,postgresql
  "$python" -m venv --without-pip "$target"
  # Nothing that this machine's pip is configured with may have a say.
  PIP_CONFIG_FILE=/dev/null "$target/bin/python" -I "$(echo wheels/pip-*.whl)/pip" --isolated install --quiet --no-index --find-links wheels \
    --disable-pip-version-check --no-cache-dir --root-user-action ignore "vidfed[$extras]==$version"
  cp uninstall.sh LICENCES.txt sbom.cdx.json "$target/"
  chmod 755 "$target/uninstall.sh"
  # It must work before anybody gets it: hash a picture of noise; load what a node is made of.
  "$target/bin/python" -I -c 'import os, sys; from PIL import Image; Image.frombytes("RGB", (64, 64), os.urandom(12288)).save(sys.argv[1])' "$target/try.png"
  "$target/bin/vidfed" hash "$target/try.png" >/dev/null || die "the program does not run here; nothing was changed"
  rm "$target/try.png"
  [ $part = investigator ] || "$target/bin/python" -I -c 'import alembic, faiss, numba, pkcs11, prometheus_client, psycopg, pymysql, sqlalchemy' ||
    die "a part of the node does not load here; nothing was changed"
  touch "$target/.vidfed-bundle"
  trap - EXIT HUP INT TERM
fi
ln -sfn "$target" "$prefix.new"
mv -T "$prefix.new" "$prefix"

outside=
put() { # put FILE TARGET: one file outside the program's folder, remembered for uninstall.sh
  mkdir -p "$(dirname "$2")"; cp "$1" "$2"; chmod 644 "$2"; outside="$outside$2
"
}
if [ $root = yes ] && [ "$prefix" = /opt/vidfed ]; then
  ln -sfn "$prefix/bin/vidfed" /usr/local/bin/vidfed
  outside="/usr/local/bin/vidfed
"
  if command -v bash >/dev/null; then
    _VIDFED_COMPLETE=bash_source "$prefix/bin/vidfed" > "$target/completion.bash"
    put "$target/completion.bash" /usr/share/bash-completion/completions/vidfed
  fi
fi
if [ $part = node ]; then
  getent group vidfed >/dev/null || groupadd --system vidfed
  getent passwd vidfed >/dev/null || useradd --system --gid vidfed --home-dir /srv/vidfed --no-create-home --shell /usr/sbin/nologin vidfed
  for folder in /srv/vidfed /srv/backup; do install -d -o vidfed -g vidfed -m 0700 "$folder"; done
  for unit in systemd/*; do
    sed "s|/opt/vidfed/|$prefix/|g" "$unit" > "$target/unit"
    put "$target/unit" "/etc/systemd/system/$(basename "$unit")"
    rm "$target/unit"
  done
  if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
printf '%s' "$outside" > "$target/outside"
echo "install.sh: done: $("$prefix/bin/vidfed" --version)"
if [ -n "$before" ] && [ "$before" != "$target" ]; then
  echo "install.sh: $before stays. Restart the services to use the new one. Back: ln -sfn $before $prefix"
fi
if [ $part = node ]; then echo "Next: set up the member's folder below /srv/vidfed as the user vidfed (docs/two-machines.md)."; fi
