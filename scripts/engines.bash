# The engines of some scenarios: crun as a runtime of Docker, podman, libvirt's LXC driver, and their requirements.
# setup succeeds without any of them. Sourced by setup, never run.
# shellcheck shell=bash
# shellcheck disable=SC2154  # scratch is setup's

# On a host with both versions of cgroups (hybrid), crun (so podman too) and libvirt's LXC driver refuse to run if
# version 2 has a controller. It has all unmounted ones, so this mounts them as version 1.
mount_controllers() {
    local fs=/sys/fs/cgroup controller
    [[ -e $fs/unified/cgroup.controllers ]] || return 0
    for controller in $(<"$fs/unified/cgroup.controllers"); do
        as_root mkdir -p "$fs/$controller"
        if as_root mount -t cgroup -o "$controller" cgroup "$fs/$controller" 2>"$scratch/mount.log"; then
            say fixed "cgroup controller $controller: mounted at $fs/$controller (version 1), without which crun, podman and LXC refuse this host"
            # The daemon remembers the hierarchies of its start.
            restart_libvirt
        else
            as_root rmdir "$fs/$controller" 2>/dev/null || true
            say note "cgroup controller $controller can't be mounted as version 1, so crun, podman and LXC won't run: $(tail -n 1 "$scratch/mount.log")"
        fi
    done
}

# Adds crun as a runtime of Docker, for targets with runtime = "crun". Keeps other settings and running containers:
# dockerd only reloads its settings.
register_crun() {
    local settings=/etc/docker/daemon.json crun
    [[ -z ${DOCKER_HOST-} ]] || return 0
    if ! crun=$(command -v crun); then
        say note "no crun: Docker's targets have the runtimes that are there"
        return
    fi
    if docker_has_crun; then
        say ok "$("$crun" --version | head -n 1), as a runtime of Docker's"
        return
    fi
    if as_root test -s "$settings"; then
        # Keeps an existing runtime of this name.
        # shellcheck disable=SC2016  # jq's variable
        if ! as_root cat "$settings" | jq --arg path "$crun" '.runtimes.crun //= {path: $path}' >"$scratch/daemon.json"; then
            say note "crun could not be added to $settings: add \"runtimes\": {\"crun\": {\"path\": \"$crun\"}} to it and reload dockerd"
            return
        fi
    else
        printf '{\n  "runtimes": { "crun": { "path": "%s" } }\n}\n' "$crun" >"$scratch/daemon.json"
    fi
    if ! pid=$(pidof -s dockerd); then
        say note "dockerd does not run here: crun is not added to its runtimes"
        return
    fi
    as_root mkdir -p "${settings%/*}"
    # Atomically: dockerd would not start with half a file.
    as_root install -m 644 "$scratch/daemon.json" "$settings.new"
    as_root mv "$settings.new" "$settings"
    as_root kill -HUP "$pid"
    for _ in {1..50}; do
        if docker_has_crun; then
            say fixed "$("$crun" --version | head -n 1): added to Docker's runtimes in $settings"
            return
        fi
        sleep 0.1
    done
    say note "crun is in $settings, and dockerd does not list it as a runtime: its log may say why"
}

docker_has_crun() {
    as_root timeout 10 docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q '"crun"'
}

lxc_version() {
    as_root timeout 10 virsh -c lxc:/// version 2>/dev/null | sed -n 's/^Using API: //p' | grep .
}

# A libvirtd that was started before the driver was installed lacks it.
load_lxc() {
    local version
    if version=$(lxc_version); then
        say ok "libvirt's LXC driver, $version"
        return
    fi
    if [[ -n $(missing_of libvirt-daemon-driver-lxc) ]]; then
        say note "libvirt's LXC driver is not installed: only targets with kind = \"lxc\" need it"
        return
    fi
    restart_libvirt
    start_libvirt
    if version=$(lxc_version); then
        say fixed "libvirt's LXC driver, $version: libvirtd was restarted to load it"
    else
        say note "libvirt does not load its LXC driver, which only targets with kind = \"lxc\" need"
    fi
}

podman_socket=/run/podman/podman.sock

podman_version() {
    as_root timeout 10 podman --remote --url "unix://$podman_socket" version --format '{{.Server.Version}}' 2>/dev/null
}

# podman has no daemon: a service answers at its socket while something keeps it running.
start_podman() {
    local version
    if ! command -v podman >/dev/null; then
        say note "no podman: only targets with kind = \"podman\" need it"
        return
    fi
    if version=$(podman_version); then
        say ok "podman $version"
        return
    fi
    if has_systemd; then
        # Debian's service ends after 5 idle seconds, and a container's start would then include its restart.
        as_root mkdir -p /etc/systemd/system/podman.service.d
        printf '[Service]\nExecStart=\nExecStart=/usr/bin/podman system service --time=0\n' |
            as_root tee /etc/systemd/system/podman.service.d/bootrace.conf >/dev/null
        as_root systemctl daemon-reload
        as_root systemctl enable --now podman.socket podman.service >"$scratch/systemctl.log" 2>&1 ||
            say note "systemctl could not start podman.socket: $(tail -n 1 "$scratch/systemctl.log")"
    else
        start_podman_service
    fi
    for _ in {1..100}; do
        if version=$(podman_version); then
            say started "podman $version, at $podman_socket"
            return
        fi
        sleep 0.1
    done
    say note "podman's service does not answer, which only targets with kind = \"podman\" need; the end of its log: $(last_log podman podman.service | tail -n 3)"
}

# For hosts without a service manager. A file that only this service reads adapts podman to this host: users' own podman
# does not change.
start_podman_service() {
    local settings=/var/lib/bootrace/podman.conf runtime=runc
    if command -v crun >/dev/null; then runtime=crun; fi
    as_root mkdir -p "${settings%/*}" "${podman_socket%/*}"
    as_root tee "$settings" >/dev/null <<TEXT
# Written by bootrace's scripts/setup, for the service that it starts.
[engine]
# There is no systemd.
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "$runtime"
TEXT
    as_root rm -f "$podman_socket"
    start_daemon podman podman env CONTAINERS_CONF="$settings" podman system service --time=0 "unix://$podman_socket"
}

all_engines_answer() {
    docker_has_crun || die "Docker has no runtime crun, which tests need" "see the notes above"
    lxc_version >/dev/null || die "libvirt has no LXC driver, which tests need" "see the notes above"
    podman_version >/dev/null || die "podman does not answer, and tests need it" "see the notes above"
}
