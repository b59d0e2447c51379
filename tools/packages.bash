# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# The Debian packages of the build and of the tests, written once, and how to get those that are missing.
# Read by tools/quickstart, tools/test and tools/fetch-arm64.

# What `cmake --preset release && cmake --build --preset release` needs.
packages_libraries=(libc6-dev libsystemd-dev libjson-c-dev libini-config-dev libsmartcols-dev
        libnl-3-dev libbpf-dev)
packages_build=(gcc clang bpftool cmake ninja-build pkg-config scdoc "${packages_libraries[@]}")
# What the quick tests need on top, and all of them on top of that.
packages_test_libraries=(libcmocka-dev)
packages_test_fast=(g++ jq python3 "${packages_test_libraries[@]}")
packages_test=(clang-tidy clang-format libclang-rt-14-dev systemd mandoc golang-go
        golang-github-varlink-go-dev debhelper dpkg-dev lintian strace spin)

# What builds for arm64, and runs that here (qemu-user alone: nothing is registered with the kernel). The libraries are
# those above, of arm64: tools/fetch-arm64 unpacks them beside the system.
packages_arm64=(gcc-aarch64-linux-gnu qemu-user)
# What makes the images of the virtual machines (tests/vm); these fetch QEMU and the kernels themselves.
packages_vm=(e2fsprogs fakeroot kmod)

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
