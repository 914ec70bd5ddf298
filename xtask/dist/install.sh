#!/bin/sh
# Installs Spinesight into a system that is not its own: run as root in the unpacked archive.
#
#   sh install.sh            installs this version and starts it
#   sh install.sh --files    only puts the files in place; what runs stays as it is
#   sh install.sh --back     returns to the version before
#
# Versions lie side by side in /opt/spinesight; `current` is the one that runs and `previous` the
# one before. Configuration, secrets, scans and chosen models are never overwritten.
set -eu

opt=/opt/spinesight
etc=/etc/spinesight
models=/var/lib/spinesight-models
units=/etc/systemd/system
judging={judging}
umask 022

fail() {
    echo "error: $*" >&2
    exit 1
}

# Points a link elsewhere in one step, so that it is never missing.
point() {
    ln -sfn "$1" "$2.new"
    mv -T "$2.new" "$2"
}

[ "$(id -u)" = 0 ] || fail "run this as root"

if [ "${1:-}" = --back ]; then
    [ -L "$opt/previous" ] || fail "there is no version before this one"
    before=$(readlink "$opt/previous")
    now=$(readlink "$opt/current")
    point "$before" "$opt/current"
    point "$now" "$opt/previous"
    systemctl restart spinesight.service
    echo "version $before runs again"
    exit 0
fi

cd "$(dirname "$0")"
[ "$(uname -m)" = aarch64 ] || fail "this is for 64-bit ARM, and this machine is $(uname -m)"
sha256sum --check --strict --quiet SHA256SUMS || fail "the archive is damaged: fetch it again"
version=$(sed -n 's/^VERSION=//p' release)
[ -n "$version" ] || fail "the file 'release' names no version"

# A version is complete or not there at all: it gets its name last.
mkdir -p "$opt"
rm -rf "$opt/.$version"
mkdir "$opt/.$version"
cp -R . "$opt/.$version/"
sync
if [ -e "$opt/$version" ]; then
    rm -rf "$opt/.$version.old"
    mv "$opt/$version" "$opt/.$version.old"
fi
mv "$opt/.$version" "$opt/$version"
rm -rf "$opt/.$version.old"
sync
[ "${1:-}" != --files ] || exit 0

mkdir -p "$etc"
[ -d "$etc/secrets" ] || mkdir -m 700 "$etc/secrets"
[ -e "$etc/device.toml" ] || install -m 644 config/device.toml "$etc/device.toml"

if [ ! -e "$models/current" ]; then
    mkdir -p "$models"
    point "$opt/current/bundles/$judging" "$models/current"
fi

if [ "$(readlink "$opt/current" 2>/dev/null)" != "$version" ]; then
    [ ! -L "$opt/current" ] || point "$(readlink "$opt/current")" "$opt/previous"
    point "$version" "$opt/current"
fi

# The panel's and display's device files belong to groups that not every system has.
install -m 644 systemd/*.service "$units/"
mkdir -p "$units/spinesight.service.d"
{
    echo "# Written by Spinesight's install.sh."
    echo "[Service]"
    for group in gpio i2c; do
        if getent group "$group" >/dev/null; then echo "SupplementaryGroups=$group"; fi
    done
} >"$units/spinesight.service.d/groups.conf"

systemctl daemon-reload
systemctl enable spinesight.service
systemctl restart spinesight.service
echo "version $version runs; back to the one before: sh $opt/current/install.sh --back"
