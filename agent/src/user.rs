//! The user that a workload runs as, resolved by the image's own `/etc/passwd` and `/etc/group` as Docker does.

use std::{fs::OpenOptions, io::Read, os::unix::fs::OpenOptionsExt, path::Path};

/// Most bytes of each file; a larger one is an error.
const MOST: u64 = 1 << 20;
/// Most supplementary groups that the kernel takes.
const GROUPS: usize = 65_536;

/// A user by the numbers of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    home: String,
    /// Unknown for a number that the image has no user for.
    name: Option<String>,
}

impl User {
    /// Finds a user by `name`, `uid`, `name:group` or `uid:gid`. A number needs no entry: it has group 0 then, and `/` as
    /// its home. With a group written, the user has no other groups.
    ///
    /// # Errors
    /// With the fix, when the image has no such user or group, or a file can't be read.
    pub fn find(spec: &str) -> Result<User, String> {
        let failed = |why: String| format!("run as user {spec:?} (workload.user): {why}");
        let file = |path: &str| {
            read(Path::new(path)).map_err(|why| failed(format!("read {path} of the image: {why}")))
        };
        Self::find_in(spec, &file("/etc/passwd")?, &file("/etc/group")?).map_err(failed)
    }

    fn find_in(spec: &str, passwd: &str, group: &str) -> Result<User, String> {
        let (user, wanted) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
        let number = user.parse::<u32>().ok();
        // Its name, password, uid, gid, comment, home and shell.
        let entry = entries(passwd).find_map(|fields| {
            let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            (name == user || number == Some(uid)).then_some((name, uid, gid, home))
        });
        let mut found = match (entry, number) {
            (Some((name, uid, gid, home)), _) => {
                let home = if home.is_empty() { "/" } else { home };
                User { uid, gid, groups: Vec::new(), home: home.into(), name: Some(name.into()) }
            }
            (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".into(), name: None },
            (None, None) => {
                return Err(format!(
                    "the image's /etc/passwd has no user {user:?}; write a number, or install the package that makes it"
                ));
            }
        };
        // Its name, password, gid and members.
        let groups = entries(group).filter_map(|fields| {
            let [name, _, gid, ref members @ ..] = fields[..] else { return None };
            Some((name, gid.parse::<u32>().ok()?, members.first().copied().unwrap_or_default()))
        });
        match wanted {
            Some(wanted) => {
                let number = wanted.parse().ok();
                let by_name = groups.into_iter().find(|(name, ..)| *name == wanted).map(|(_, gid, _)| gid);
                found.gid = by_name.or(number).ok_or_else(|| {
                    format!("the image's /etc/group has no group {wanted:?}; write a number, or leave the group out")
                })?;
            }
            None => {
                let name = found.name.as_deref();
                let has = |members: &str| members.split(',').any(|member| Some(member) == name);
                found.groups =
                    groups.filter(|(.., members)| has(members)).map(|(_, gid, _)| gid).take(GROUPS).collect();
            }
        }
        Ok(found)
    }

    /// Docker's `HOME`, and `USER` where the user has a name.
    pub fn variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let user = self.name.as_deref().map(|name| ("USER", name));
        [("HOME", self.home.as_str())].into_iter().chain(user)
    }
}

/// The fields of each line but comments.
fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('\0'));
    lines.map(|line| line.trim_end().split(':').collect())
}

/// A file's text; an image without the file has no entries.
fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    // A fifo would block.
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        file => file.map_err(|e| e.to_string())?,
    };
    if !file.metadata().is_ok_and(|file| file.is_file()) {
        return Err("it is no regular file".into());
    }
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MOST {
        return Err(format!("it is larger than {MOST} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n# comment:x:9:9::/:\nredis:x:101:102::/var/lib/redis:/usr/sbin/nologin\n\
                          bare:x:7:8:::\nbroken\n:x:a:b:::\n101:x:55:56::/trap:/bin/sh\n+::::::\n";
    const GROUP: &str = "root:x:0:\nredis:x:102:\nssl-cert:x:110:postgres,redis\nadm:x:4:redis\nnogroup:x:65534:redish\nodd:x\n";

    fn find(spec: &str) -> Result<User, String> {
        User::find_in(spec, PASSWD, GROUP)
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str, name: Option<&str>) -> User {
        User { uid, gid, groups: groups.into(), home: home.into(), name: name.map(str::to_owned) }
    }

    #[test]
    fn a_user_is_found_by_name_or_number_with_its_groups_and_home() {
        let redis = user(101, 102, &[110, 4], "/var/lib/redis", Some("redis"));
        assert_eq!(find("redis").unwrap(), redis);
        assert_eq!(find("101").unwrap(), redis, "the first that fits");
        assert_eq!(find("bare").unwrap(), user(7, 8, &[], "/", Some("bare")));
        assert_eq!(find("root").unwrap(), user(0, 0, &[], "/root", Some("root")));
        let variables: Vec<_> = redis.variables().collect();
        assert_eq!(variables, [("HOME", "/var/lib/redis"), ("USER", "redis")]);
    }

    #[test]
    fn a_number_needs_no_entry_and_a_written_group_is_the_only_one() {
        assert_eq!(find("4242").unwrap(), user(4242, 0, &[], "/", None));
        assert_eq!(find("4242").unwrap().variables().collect::<Vec<_>>(), [("HOME", "/")]);
        assert_eq!(find("redis:adm").unwrap(), user(101, 4, &[], "/var/lib/redis", Some("redis")));
        assert_eq!(find("101:4711").unwrap().gid, 4711);
        assert_eq!(User::find_in("1:2", "", "").unwrap(), user(1, 2, &[], "/", None));
    }

    #[test]
    fn an_unknown_name_is_an_error_with_a_fix() {
        let error = find("nobody2").unwrap_err();
        assert!(error.starts_with("the image's /etc/passwd has no user \"nobody2\"; write"), "{error}");
        assert!(find("redis:nosuch").unwrap_err().contains("/etc/group has no group \"nosuch\""));
        for odd in ["", "-1", "4294967296", "comment", "broken", "redis:", ":102"] {
            assert!(find(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn hostile_files_are_bounded_and_end_in_an_error_or_a_user() {
        let long = format!("{}:x:1:1::/:\n", "x".repeat(1 << 16)).repeat(4);
        assert!(User::find_in("redis", &long, &long).is_err());
        assert!(User::find_in("a", "a:x:1:1::/h\0me:/bin/sh\n", "").is_err(), "no variable can have it");
        let groups: String = (0..100_000).map(|n| format!("g{n}:x:{n}:redis\n")).collect();
        assert_eq!(User::find_in("redis", PASSWD, &groups).unwrap().groups.len(), GROUPS);
        let dir = std::env::temp_dir();
        assert_eq!(read(&dir).unwrap_err(), "it is no regular file");
        assert_eq!(read(&dir.join("no-such-file")).unwrap(), "");
        assert!(read(Path::new("/dev/zero")).is_err());
    }
}
