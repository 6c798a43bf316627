# What setup, bench, test and .ci/run share. Sourced, never run.
# shellcheck shell=bash

# Debian keeps it from users' PATH, and daemons are there.
PATH=$PATH:/usr/sbin:/sbin
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -t 1 && -z ${NO_COLOR-} ]]; then
    green=$'\e[32m' yellow=$'\e[33m' red=$'\e[31m' plain=$'\e[0m'
else
    green='' yellow='' red='' plain=''
fi

# say WORD TEXT: one line per thing.
say() {
    local colour=$green
    [[ $1 == note ]] && colour=$yellow
    printf '%s%-9s%s %s\n' "$colour" "$1" "$plain" "$2"
}

# die TEXT...: what went wrong and what to do, one line each.
die() {
    printf '%s%-9s%s %s\n' "$red" failed "$plain" "$1" >&2
    shift
    (($# == 0)) || printf '          %s\n' "$@" >&2
    exit 1
}

# Runs a command as root, whoever we are.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "'$1' needs root, and there is no sudo" "run this script as root"
    fi
}

# Puts cargo on PATH where rustup put it; false when there is none.
find_cargo() {
    command -v cargo >/dev/null && return
    local bin=${CARGO_HOME:-$HOME/.cargo}/bin
    [[ -x $bin/cargo ]] || return
    export PATH=$bin:$PATH
}

# Lets cargo build as the user and run what it built as root, which Docker, libvirt and cgroups need.
run_built_programs_as_root() {
    ((EUID == 0)) && return
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    triple=${triple//-/_}
    export "CARGO_TARGET_${triple^^}_RUNNER=sudo --preserve-env"
}

# What ran as root wrote these; they are the user's.
give_back_written_files() {
    ((EUID == 0)) && return
    local path
    for path in "$root/reports" "${CARGO_TARGET_DIR:-$root/target}/criterion"; do
        [[ ! -e $path ]] || sudo chown -R "$(id -u):$(id -g)" "$path"
    done
}
