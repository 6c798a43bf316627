//! The user that libvirt runs QEMU as, and whether it may open `/dev/kvm`. If it may not, libvirt takes its cached
//! knowledge of QEMU for outdated and probes QEMU again many times at each start of a VM: a minute each, with KVM or
//! without.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

const DEVICE: &str = "/dev/kvm";
/// The distributions' users for QEMU, if libvirt's configuration names none.
const USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// Candidates for the user that libvirt's system driver runs QEMU as, by name or number: the one of its settings, else
/// those of distributions. The first that exists is it.
pub fn qemu_users() -> Vec<String> {
    users(&fs::read_to_string("/etc/libvirt/qemu.conf").unwrap_or_default())
}

/// Parses `user = "name"`, the last one if there are several. A + marks a number that could be a name.
pub(crate) fn users(conf: &str) -> Vec<String> {
    let configured = conf.lines().rev().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        // A comment may follow the closing quote.
        let value = value.trim().trim_start_matches(['"', '\'']).split(['"', '\'']).next()?;
        (key.trim() == "user").then(|| value.trim_start_matches('+').to_owned())
    });
    configured.map_or_else(|| USERS.map(str::to_owned).into(), |name| vec![name])
}

/// Why libvirt's QEMU can't open the existing device, with the fix. `None` if it can, or if that is unknown.
pub fn closed_to_qemu() -> Option<String> {
    let device = fs::metadata(DEVICE).ok().filter(|device| device.file_type().is_char_device())?;
    // An access control list may admit any user.
    if rustix::fs::getxattr(DEVICE, "system.posix_acl_access", &mut [0u8; 0][..]).is_ok() {
        return None;
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let access = Access { mode: device.mode(), owner: device.uid(), group: device.gid() };
    let user = User::find(&qemu_users(), &read("/etc/passwd"), &read("/etc/group"))?;
    (!user.may_open(&access)).then(|| {
        format!(
            "libvirt's QEMU runs as {}, which can't open {DEVICE} (mode {:04o}): libvirt then takes up to a minute longer \
             to start each VM, emulated ones too. Run scripts/setup, or chgrp kvm {DEVICE}, chmod 660 {DEVICE} and \
             restart libvirtd",
            user.name,
            access.mode & 0o7777
        )
    })
}

struct Access {
    mode: u32,
    owner: u32,
    group: u32,
}

#[derive(Debug, PartialEq)]
pub(crate) struct User {
    name: String,
    id: u32,
    groups: Vec<u32>,
}

impl User {
    /// The first of `users` that exists.
    pub(crate) fn find(users: &[String], passwd: &str, group: &str) -> Option<Self> {
        // name:password:id:group
        let entry = |wanted: &String| {
            let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
            let mut entries = passwd.lines().map(fields).filter(|fields| fields.len() > 3);
            let found = entries.find(|fields| fields[0] == *wanted || fields[2] == *wanted)?;
            Some((found[0].clone(), found[2].parse().ok()?, found[3].parse().ok()?))
        };
        let (name, id, own) = users.iter().find_map(entry)?;
        // name:password:id:member,member
        let member = |line: &str| {
            let mut fields = line.split(':').skip(2);
            let id = fields.next()?.parse().ok()?;
            fields.next()?.split(',').any(|member| member.trim() == name).then_some(id)
        };
        let groups = std::iter::once(own).chain(group.lines().filter_map(member)).collect();
        Some(User { name, id, groups })
    }

    fn may_open(&self, access: &Access) -> bool {
        let shift = match () {
            () if self.id == 0 => return true,
            () if self.id == access.owner => 6,
            () if self.groups.contains(&access.group) => 3,
            () => 0,
        };
        access.mode >> shift & 0o6 == 0o6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:994:QEMU:/var/lib/libvirt:/bin/false\n\
                          me:x:1000:1000::/home/me:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nkvm:x:104:libvirt-qemu,me\ndisk:x:6:\n";

    fn device(mode: u32, group: u32) -> Access {
        Access { mode: 0o20000 | mode, owner: 0, group }
    }

    #[test]
    fn the_user_is_the_configured_one_else_the_distributions() {
        let user = |conf| User::find(&users(conf), PASSWD, GROUP);
        let usual = User { name: "libvirt-qemu".into(), id: 64055, groups: vec![994, 104] };
        assert_eq!(user("#user = \"root\"\ngroup = \"disk\"\n"), Some(usual));
        assert_eq!(user("user = \"me\"").unwrap().groups, [1000, 104]);
        assert_eq!(user("user = \"+1000\" # by number").unwrap().name, "me");
        assert_eq!(user("user = \"nobody-here\""), None);
        assert_eq!(User::find(&users(""), "", ""), None);
    }

    #[test]
    fn of_several_lines_the_last_one_that_is_no_comment_names_the_user() {
        let conf = "#user = \"root\"\nuser = \"one\"\n  user=\"two\"\nusers = \"three\"\ngroup = \"kvm\"\n";
        assert_eq!(users(conf), ["two"]);
        assert_eq!(users("#user = \"root\""), USERS);
    }

    #[test]
    fn the_device_is_open_to_it_by_its_groups_or_to_all() {
        let usual = User::find(&users(""), PASSWD, GROUP).unwrap();
        for (access, open) in [
            (device(0o600, 0), false),
            (device(0o600, 104), false),
            (device(0o660, 0), false),
            (device(0o660, 104), true),
            (device(0o666, 0), true),
            // Members have the group's rights, not those of others.
            (device(0o606, 104), false),
        ] {
            assert_eq!(usual.may_open(&access), open, "{:o} {}", access.mode, access.group);
        }
        assert!(User::find(&users("user = \"root\""), PASSWD, GROUP).unwrap().may_open(&device(0o600, 0)));
    }
}
