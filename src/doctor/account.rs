//! Tries actions as another user of this host: QEMU's.

use std::{
    ffi::{CStr, CString},
    io, thread,
};

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::probe::kvm;

/// A user of this host by number, with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Account {
    /// The user of this process.
    pub fn own() -> Self {
        Account::new(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// A user with its groups from the host's user database, as libvirt does before it starts QEMU.
    pub fn new(uid: u32, gid: u32) -> Self {
        let Some((name, primary)) = entry_of(uid) else {
            return Account { name: uid.to_string(), uid, gid, groups: vec![gid] };
        };
        let mut groups = groups_of(&name, primary);
        if !groups.contains(&gid) {
            groups.push(gid);
        }
        Account { name: name.to_string_lossy().into_owned(), uid, gid, groups }
    }

    /// QEMU's user: from the settings of libvirt's system driver, else the default of distributions.
    pub fn configured_for_qemu() -> Self {
        let found = kvm::qemu_users().iter().find_map(|user| number_of(user));
        found.map_or_else(Account::own, |(uid, gid)| Account::new(uid, gid))
    }

    pub fn is_ours(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }

    /// Runs `action` as this user, in a thread of its own, since the kernel keeps credentials per thread.
    ///
    /// # Errors
    /// As `action`; when this process isn't root and the user is another one.
    pub fn run_as<T: Send>(&self, action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let become_it = || -> io::Result<()> {
            if self.is_ours() {
                return Ok(());
            }
            let groups: Vec<Gid> = self.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
            let (uid, gid) = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
            set_thread_groups(&groups)?;
            set_thread_res_gid(gid, gid, gid)?;
            // Last, since it drops the right to do the others.
            Ok(set_thread_res_uid(uid, uid, uid)?)
        };
        thread::scope(|scope| {
            let acting = scope.spawn(|| become_it().and_then(|()| action()));
            acting.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")))
        })
    }
}

/// The longest entry of a user database, in bytes.
const LARGEST_ENTRY: usize = 64 << 10;
const MOST_GROUPS: usize = 4096;

/// Name and primary group.
#[expect(unsafe_code, reason = "only the C library reads all databases of users")]
fn entry_of(uid: u32) -> Option<(CString, u32)> {
    let mut buffer = vec![0; LARGEST_ENTRY];
    let mut found = std::ptr::null_mut();
    // SAFETY: all zeros is a valid passwd; buffer and result outlive the call, which is reported the buffer's length.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        libc::getpwuid_r(uid, &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found);
        (!found.is_null()).then(|| (CStr::from_ptr(entry.pw_name).to_owned(), entry.pw_gid))
    }
}

/// Uid and primary gid of a user by name or number.
#[expect(unsafe_code, reason = "only the C library reads all databases of users")]
fn number_of(name: &str) -> Option<(u32, u32)> {
    if let Ok(uid) = name.parse() {
        return entry_of(uid).map(|(_, gid)| (uid, gid));
    }
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0; LARGEST_ENTRY];
    let mut found = std::ptr::null_mut();
    // SAFETY: as above; the name ends with a zero.
    unsafe {
        let mut entry: libc::passwd = std::mem::zeroed();
        libc::getpwnam_r(name.as_ptr(), &mut entry, buffer.as_mut_ptr(), buffer.len(), &mut found);
        (!found.is_null()).then_some((entry.pw_uid, entry.pw_gid))
    }
}

#[expect(unsafe_code, reason = "only the C library reads all databases of users")]
fn groups_of(name: &CStr, gid: u32) -> Vec<u32> {
    let mut groups = vec![0; MOST_GROUPS];
    let mut count = MOST_GROUPS as libc::c_int;
    // SAFETY: it writes at most `count` numbers, the length of the buffer.
    let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &mut count) };
    if result < 0 {
        return vec![gid];
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn this_user_can_do_what_the_process_can() {
        let own = Account::own();
        assert!(own.is_ours());
        assert_eq!(own.run_as(|| Ok(rustix::process::geteuid().as_raw())).unwrap(), own.uid);
    }

    #[test]
    fn a_user_is_named_and_an_unused_number_is_shown_in_digits() {
        assert_eq!(Account::new(0, 0).name, "root");
        let nobody = Account::new(4_000_000_001, 4_000_000_002);
        assert_eq!((nobody.name.as_str(), nobody.groups), ("4000000001", vec![4_000_000_002]));
    }

    #[test]
    fn a_users_numbers_are_found_by_its_name_and_by_its_number() {
        assert_eq!((number_of("root"), number_of("0")), (Some((0, 0)), Some((0, 0))));
        assert_eq!(number_of("nobody-has-this-name"), None);
    }

    #[test]
    #[ignore = "needs root: scripts/test runs it"]
    fn another_user_can_not_open_a_file_of_root_and_root_still_can() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let nobody = Account::new(65534, 65534);
        let error = nobody.run_as(|| File::open(file.path())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        File::open(file.path()).unwrap();
        assert!(rustix::process::geteuid().is_root());
    }
}
