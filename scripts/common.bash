# Functions of setup, bench, test and .ci/run. Sourced, never run.
# shellcheck shell=bash

# Daemons are in directories that Debian leaves out of users' PATH.
PATH=$PATH:/usr/sbin:/sbin
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    green=$'\e[32m' yellow=$'\e[33m' red=$'\e[31m' plain=$'\e[0m'
else
    green='' yellow='' red='' plain=''
fi

# say WORD TEXT: prints one line.
say() {
    local colour=$green
    [[ $1 == note ]] && colour=$yellow
    printf '%s%-9s%s %s\n' "$colour" "$1" "$plain" "$2"
}

# die TEXT...: prints what failed and the fix, one line each, and exits.
die() {
    printf '%s%-9s%s %s\n' "$red" failed "$plain" "$1" >&2
    shift
    (($# == 0)) || printf '          %s\n' "$@" >&2
    exit 1
}

# Runs a command as root, with sudo if necessary.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "'$1' needs root, and there is no sudo" "run this script as root"
    fi
}

# Puts a cargo with a toolchain on PATH: the one on PATH, that of rustup's installer, or, for a rustup without proxies,
# the toolchain's. Fails if there is none.
find_cargo() {
    local cargo
    rust_runs && return
    for cargo in "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" "$(rustup which cargo 2>/dev/null)"; do
        if [[ -x $cargo ]] && PATH=${cargo%/*}:$PATH rust_runs; then
            export PATH=${cargo%/*}:$PATH
            return
        fi
    done
    return 1
}

# rustup's proxies exist without a toolchain too. Checks inside the clone, where an override is in force.
rust_runs() {
    (cd "$root" && cargo --version && rustc --version) >/dev/null 2>&1
}

# Variables that sudo passes to programs that cargo built. Named one by one, since sudo-rs can't keep the whole
# environment.
kept_variables=(
    BOOTRACE_{SCENARIO,SAMPLES,TUNE,CACHE,STATE,ENDURANCE_ROUNDS,GENERATE,FAULT} DOCKER_{HOST,CONTEXT,CONFIG}
    CONTAINER_HOST LIBVIRT_DEFAULT_URI
    RUST_{LOG,BACKTRACE,TEST_THREADS} NO_COLOR CARGO_TARGET_DIR CRITERION_HOME
    {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY
)

# Makes cargo build as the user and run the programs as root, which Docker, libvirt and cgroups need.
run_built_programs_as_root() {
    ((EUID == 0)) && return
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    triple=${triple//-/_}
    # Otherwise criterion asks cargo for it, as root in the user's cargo home.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
    export "CARGO_TARGET_${triple^^}_RUNNER=sudo --preserve-env=$(IFS=, && echo "${kept_variables[*]}")"
}

# Makes the files that programs wrote as root the user's.
give_back_written_files() {
    ((EUID == 0)) && return
    local path target=${CARGO_TARGET_DIR:-$root/target}
    for path in "$root/reports" "$target/criterion" "$target/tmp"; do
        [[ ! -e $path ]] || sudo chown -R "$(id -u):$(id -g)" "$path"
    done
}

# A udev rule as in GitHub's documentation of its runners. Only for a CI's own machine, since it applies to all users.
enable_kvm() {
    [[ ${CI-} == true && -e /dev/kvm ]] || return 0
    command -v udevadm >/dev/null && [[ -d /run/udev ]] || return 0
    echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' |
        as_root tee /etc/udev/rules.d/99-kvm4all.rules >/dev/null
    as_root udevadm control --reload-rules
    as_root udevadm trigger --name-match=kvm
    as_root udevadm settle --timeout 10 || true
    say ok "/dev/kvm, by a udev rule"
}
