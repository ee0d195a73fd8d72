#!/bin/sh
# Takes vidfed off this machine: program, units, completion. Data stay: /srv/vidfed and /srv/backup, and their user while there is something in them.
set -eu
prefix=/opt/vidfed
if [ "${1:-}" = --prefix ] && [ $# -eq 2 ]; then prefix=$2; elif [ $# -gt 0 ]; then sed -n 2p "$0"; echo "usage: uninstall.sh [--prefix FOLDER]"; exit 2; fi
die() { echo "uninstall.sh: $*" >&2; exit 1; }
[ -L "$prefix" ] && [ -e "$prefix/.vidfed-bundle" ] || die "$prefix was not installed from a bundle"
if [ -d /run/systemd/system ]; then
  active=$(systemctl list-units --plain --no-legend --state=active,activating 'vidfed-*@*' | cut -d' ' -f1)
  [ -z "$active" ] || die "still running, stop and disable first: $(echo $active)"
fi
for folder in "$prefix"-*; do
  [ -e "$folder/.vidfed-bundle" ] || continue
  if [ -e "$folder/outside" ]; then while read -r path; do rm -f "$path"; done < "$folder/outside"; fi
done
rm "$prefix"
for folder in "$prefix"-*; do if [ -e "$folder/.vidfed-bundle" ]; then rm -rf "$folder"; fi; done
if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
if [ "$(id -u)" = 0 ] && [ "$prefix" = /opt/vidfed ] && getent passwd vidfed >/dev/null; then
  rmdir /srv/vidfed /srv/backup 2>/dev/null || true
  if [ -e /srv/vidfed ] || [ -e /srv/backup ]; then
    echo "uninstall.sh: /srv/vidfed and /srv/backup hold data and stay, with the user vidfed. Keys and records go only when you delete them."
  else
    userdel vidfed; if getent group vidfed >/dev/null; then groupdel vidfed; fi
  fi
fi
echo "uninstall.sh: vidfed is off this machine"
