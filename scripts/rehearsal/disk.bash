# Makes the disk of a rehearsal: a release with the packages of scripts/setup, bootrace and its images. Sourced, never
# run.
# shellcheck shell=bash

# Prints the packages beside the base system. scripts/setup finds them and installs nothing more.
packages_of() {
    printf '%s\n' systemd-sysv udev dbus kmod apparmor sudo iproute2 procps dmidecode initramfs-tools
    case $1 in
        ubuntu/*) printf '%s\n' linux-image-virtual ubuntu-keyring ;;
        debian/*) printf '%s\n' linux-image-amd64 debian-archive-keyring systemd-resolved ;;
    esac
    printf '%s\n' docker.io qemu-system-x86 seabios ovmf grub-pc-bin grub-efi-amd64-bin mtools \
        libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-daemon-driver-lxc libvirt-clients \
        gcc libc6-dev libvirt-dev pkg-config git ca-certificates mmdebstrap gpg distro-info-data e2fsprogs \
        qemu-utils xz-utils zstd curl xorriso podman crun jq
    case $1 in
        ubuntu/jammy) ;;
        *) printf '%s\n' netavark aardvark-dns ;;
    esac
    case $1 in
        debian/trixie) printf '%s\n' docker-cli libvirt-daemon-log ;;
    esac
}

# make_root SUITE WORK: makes WORK/root, and keeps it until its inputs change.
make_root() {
    local suite=$1 work=$2 made packages begun=$SECONDS
    packages=$(packages_of "$suite" | paste -sd,)
    made=$({ declare -f make_root make_lean make_users && echo "$suite $packages"; } | sha256sum)
    if [[ $(cat "$work/root.made" 2>/dev/null) == "$made" ]]; then
        say ok "root file system of $suite"
        return
    fi
    rm -rf -- "$work/root" "$work/root.made"
    # It needs no manuals and no syncs. mmdebstrap knows the suite's mirrors, with its updates and security updates;
    # Debian has no universe.
    mmdebstrap --variant=minbase --components="main$([[ $suite == debian/* ]] || echo ,universe)" \
        --include="$packages" --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt=force-unsafe-io \
        "${suite#*/}" "$work/root" >"$work/mmdebstrap.log" 2>&1 </dev/null ||
        no_root "$suite" "$work/mmdebstrap.log"
    # Has Ubuntu's archive keys, which scripts/setup would download.
    compgen -G "$work/root/usr/share/keyrings/ubuntu-archive-keyring.*" >/dev/null ||
        cp /usr/share/keyrings/ubuntu-archive-keyring.gpg "$work/root/usr/share/keyrings/" 2>"$work/keys.log" ||
        die "this host has no Ubuntu archive keys" "scripts/setup brings them"
    make_lean "$work/root"
    make_users "$work/root"
    echo "$made" >"$work/root.made"
    say made "root file system of $suite in $((SECONDS - begun)) s"
}

# Exit code 77 if no mirror answers: the rehearsal was not possible and did not fail.
no_root() {
    local suite=$1 log=$2
    if grep -qE 'Could not (resolve|connect)|Connection (failed|refused|timed out)|Unable to connect|Temporary failure' "$log"; then
        say note "no mirror of $suite answers, so it can't be rehearsed: $(grep -m 1 -E '^E: ' "$log")"
        exit 77
    fi
    die "mmdebstrap could not make $suite; the end of $log:" "$(tail -n 20 "$log")"
}

# Removes what takes minutes in an emulator and does not concern bootrace.
make_lean() {
    local root=$1 unit profile kept
    for unit in apt-daily{,-upgrade}.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer logrotate.timer \
        motd-news.timer podman-auto-update.{timer,service} podman-restart.service podman-clean-transient.service \
        e2scrub_reap.service grub-common.service grub-initrd-fallback.service libvirt-guests.service \
        systemd-networkd-wait-online.service getty@tty1.service serial-getty@ttyS0.service systemd-pstore.service \
        systemd-tmpfiles-clean.timer systemd-update-utmp.service systemd-update-utmp-runlevel.service \
        systemd-hwdb-update.service systemd-journal-catalog-update.service ldconfig.service systemd-firstboot.service \
        systemd-resolved.service systemd-timesyncd.service rpcbind.service exim4.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$unit"
    done
    # Its socket starts it on demand.
    rm -f "$root"/etc/systemd/system/*.wants/podman.service
    # Otherwise the first boot scans everything.
    touch "$root/etc/.updated" "$root/var/.updated"
    systemd-machine-id-setup --root="$root" >/dev/null 2>&1 || tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    # Profiles of desktop programs take two minutes to compile. Keeps those of engines and bootrace's tools.
    mkdir -p "$root/root/apparmor.d"
    kept=' abi abstractions disable force-complain local tunables crun runc podman buildah libvirt mmdebstrap unix-chkpwd unprivileged_userns usr.lib.libvirt.virt-aa-helper usr.sbin.libvirtd virtiofsd '
    for profile in "$root"/etc/apparmor.d/*; do
        [[ $kept == *" ${profile##*/} "* ]] || mv "$profile" "$root/root/apparmor.d/"
    done
    # libvirt's default network needs dnsmasq; nothing here has a network.
    rm -f "$root/etc/libvirt/qemu/networks/autostart/default.xml"
    echo rehearsal >"$root/etc/hostname"
    echo '127.0.0.1 localhost rehearsal' >"$root/etc/hosts"
    echo '/dev/sda / ext4 defaults 0 0' >"$root/etc/fstab"
    install -d "$root/etc/systemd/journald.conf.d" "$root/rehearsal/out"
    printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n' >"$root/etc/systemd/journald.conf.d/rehearsal.conf"
    cat >"$root/etc/systemd/system/rehearsal.service" <<'TEXT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/rehearsal/guest --boot
StandardOutput=null
TimeoutStartSec=infinity
[Install]
WantedBy=default.target
TEXT
    install -d "$root/etc/systemd/system/graphical.target.wants"
    ln -sf /etc/systemd/system/rehearsal.service "$root/etc/systemd/system/graphical.target.wants/"
}

# Users: an ordinary one, a member of the engines' groups, and one with sudo.
make_users() {
    local root=$1
    chroot "$root" useradd -m -s /bin/bash plain
    chroot "$root" useradd -m -s /bin/bash -G docker,libvirt,kvm member
    chroot "$root" useradd -m -s /bin/bash -G sudo admin
    echo 'admin ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/rehearsal"
}

# fill_root WORK PROGRAM PARTS OF: adds the program, its sources' revision OF, its images and the list of parts.
fill_root() {
    local work=$1 program=$2 parts=$3 of=$4 root=$1/root begun=$SECONDS
    install -m 755 "$program" "$root/usr/local/bin/bootrace"
    install -d "$root/rehearsal"
    cp "${BASH_SOURCE[0]%/*}"/{guest,*.toml} "$root/rehearsal/"
    rm -rf "$root/rehearsal/out" && mkdir "$root/rehearsal/out"
    echo "$parts" >"$root/rehearsal/parts"
    echo "$("$program" --version) $of" >"$root/rehearsal/out/program"
    if [[ " $parts " == *" setup "* ]]; then put_setup "$root"; fi
    cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
    # Uses the release's own tools and daemons. An image takes minutes under emulation and seconds here.
    unshare --mount --pid --fork --kill-child "${BASH_SOURCE[0]%/*}/images" "$root" "$parts" >"$work/images.log" 2>&1 ||
        die "the images could not be made; the end of $work/images.log:" "$(tail -n 20 "$work/images.log")"
    say ok "bootrace and its images ($((SECONDS - begun)) s)"
}

# What scripts/setup needs beside packages: itself, and a Rust that it would otherwise download.
put_setup() {
    local root=$1 clone sysroot
    clone=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
    find_cargo || die "there is no cargo: scripts/setup installs it"
    sysroot=$(cd "$clone" && rustc --print sysroot)
    install -d "$root/opt/rust/bin" "$root/opt/rust/lib" "$root/rehearsal/bootrace"
    cp -u "$sysroot"/bin/{cargo,rustc} "$root/opt/rust/bin/"
    cp -u "$sysroot"/lib/*.so* "$root/opt/rust/lib/"
    cp -r "$clone"/{Cargo.toml,scripts} "$root/rehearsal/bootrace/"
}

make_disk() {
    local work=$1 kernel initrd=()
    kernel=$(readlink -f "$work/root/boot/vmlinuz" || true)
    [[ -e $kernel ]] || kernel=$(printf '%s\n' "$work"/root/boot/vmlinuz-* | sort -V | tail -n 1)
    rm -rf "$work/iso" "$work/disk.img"
    mkdir -p "$work/iso/boot/grub"
    cp "$kernel" "$work/iso/boot/vmlinuz"
    local line="root=/dev/sda rw console=ttyS0,115200 quiet loglevel=3 mitigations=off tsc=reliable random.trust_cpu=on nowatchdog nokaslr systemd.show_status=0 kvm.halt_poll_ns=0"
    # Ubuntu's kernel can read the disk without an initrd.
    if ! grep -q '^CONFIG_ATA_PIIX=y' "$work"/root/boot/config-"${kernel##*/vmlinuz-}"; then
        cp "$work/root/boot/initrd.img-${kernel##*/vmlinuz-}" "$work/iso/boot/initrd.img"
        initrd=("initrd /boot/initrd.img")
    fi
    printf '%s\n' "set timeout=0" "linux /boot/vmlinuz $line" "${initrd[@]}" boot >"$work/iso/boot/grub/grub.cfg"
    grub-mkrescue -d /usr/lib/grub/i386-pc -o "$work/boot.iso" "$work/iso" >"$work/grub.log" 2>&1 ||
        die "grub-mkrescue made no CD:" "$(tail -n 5 "$work/grub.log")"
    # Whole cylinders of 16 heads and 63 sectors. Sparse.
    truncate -s $((12 * 1024 * 1024 * 1024 / 516096 * 516096)) "$work/disk.img"
    mke2fs -q -F -t ext4 -O ^has_journal,^metadata_csum -m 0 -d "$work/root" "$work/disk.img" >"$work/mke2fs.log" 2>&1 ||
        die "mke2fs made no disk:" "$(tail -n 5 "$work/mke2fs.log")"
    rm -rf "$work/iso"
    say made "disk.img, $(du -sh "$work/disk.img" | cut -f1)"
}
