# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# The Debian packages of the build and of the tests, written once, and how to get those that are missing.
# Read by tools/quickstart and tools/test.

# What `cmake --preset release && cmake --build --preset release` needs.
packages_build=(gcc libc6-dev cmake ninja-build pkg-config libsystemd-dev libjson-c-dev libini-config-dev
        libsmartcols-dev scdoc)
# What the quick tests need on top, and all of them on top of that.
packages_test_fast=(libcmocka-dev g++ jq python3)
packages_test=(clang clang-tidy clang-format libclang-rt-14-dev systemd mandoc golang-go
        golang-github-varlink-go-dev)

packages_missing() {
        local package status

        for package; do
                status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) || status=
                [[ $status == "install ok installed" ]] || echo "$package"
        done
}

# packages_need NAME...: installs the missing ones as root or with sudo; otherwise says which, and fails.
packages_need() {
        local -a missing get=(apt-get)

        if ! command -v dpkg-query >/dev/null; then
                echo "Not a Debian system: have these yourself: $*"
                return 0
        fi
        mapfile -t missing < <(packages_missing "$@")
        ((${#missing[@]})) || return 0

        if ((EUID != 0)); then
                if ! command -v sudo >/dev/null || { [[ ! -t 0 ]] && ! sudo -n true 2>/dev/null; }; then
                        echo "Missing packages; as root: apt-get install ${missing[*]}" >&2
                        return 1
                fi
                get=(sudo env DEBIAN_FRONTEND=noninteractive apt-get)
        fi
        echo "Installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        "${get[@]}" -qq update </dev/null >/dev/null &&
                "${get[@]}" -qq install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}
