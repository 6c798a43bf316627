//! The libvirt URIs that a target may use: on this host, with the driver of the target's kind.

use super::Kind;

/// Longest URI, in bytes; URIs with a socket's path are shorter.
const LONGEST: usize = 256;

/// Checks that bootrace can measure instances of this kind at this URI, by its text alone.
///
/// # Errors
/// With the reason and the fix, where it can't.
pub fn fits(kind: Kind, uri: &str) -> Result<(), String> {
    let (driver, write, known) = match kind {
        Kind::Lxc => ("lxc", "write \"lxc:///\"", ["", "/", "/system"].as_slice()),
        Kind::Libvirt => ("qemu", "write \"qemu:///system\"", ["/system", "/session"].as_slice()),
        Kind::Native | Kind::Docker | Kind::Podman => {
            return Err(format!("kind = \"{kind}\" uses no libvirt: leave this out"));
        }
    };
    if uri.is_empty() || uri.len() > LONGEST {
        return Err(format!("this is not a libvirt URI of 1 to {LONGEST} characters: {write}"));
    }
    // Outputs show it, and libvirt gets it.
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '\\' | '`');
    if !uri.chars().all(plain) {
        return Err(format!("this has a character that a libvirt URI can't have: {write}"));
    }
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(format!("this is not a libvirt URI, which contains \"://\": {write}"));
    };
    let (its_driver, transport) = scheme.split_once('+').unwrap_or((scheme, "unix"));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if its_driver == "test" {
        return Err(format!("libvirt's driver for tests runs no real instances: {write}"));
    }
    if !host.is_empty() || transport != "unix" {
        return Err(format!(
            "this libvirt is reached over a network, but bootrace reads processes and cgroups and places files on its \
             own host: run bootrace there, or {write}"
        ));
    }
    if its_driver != driver {
        return Err(format!(
            "its driver is {its_driver}, but kind = \"{kind}\" needs libvirt's {driver} driver: {write}"
        ));
    }
    if !known.contains(&path) {
        return Err(format!("bootrace can't use {path:?} of libvirt's {driver} driver: {write}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libvirt_of_this_host_and_of_the_kinds_driver_fits() {
        for uri in
            ["qemu:///system", "qemu:///session", "qemu+unix:///system", "qemu:///system?socket=/run/x/sock"]
        {
            assert_eq!(fits(Kind::Libvirt, uri), Ok(()), "{uri}");
        }
        for uri in ["lxc:///", "lxc:///system", "lxc+unix:///"] {
            assert_eq!(fits(Kind::Lxc, uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn another_host_is_refused_since_processes_and_files_are_read_on_this_one() {
        for uri in [
            "qemu+ssh://root@elsewhere/system",
            "qemu://elsewhere/system",
            "qemu+tls:///system",
            "qemu+ssh:///system",
            "qemu+tcp://[::1]/system",
            "qemu://localhost/system",
        ] {
            let why = fits(Kind::Libvirt, uri).unwrap_err();
            assert!(why.contains("run bootrace there, or write \"qemu:///system\""), "{uri}: {why}");
        }
        assert!(fits(Kind::Lxc, "lxc+ssh://elsewhere/").unwrap_err().contains("write \"lxc:///\""));
    }

    #[test]
    fn an_unsupported_uri_is_refused_with_the_right_one() {
        for (kind, uri, why) in [
            (Kind::Libvirt, "test:///default", "driver for tests"),
            (Kind::Libvirt, "lxc:///", "its driver is lxc"),
            (Kind::Libvirt, "xen:///system", "its driver is xen"),
            (Kind::Lxc, "qemu:///system", "its driver is qemu"),
            (Kind::Libvirt, "qemu:///embed?root=/tmp/x", "can't use \"/embed\""),
            (Kind::Libvirt, "qemu:///", "can't use \"/\""),
            (Kind::Libvirt, "system", "not a libvirt URI"),
            (Kind::Libvirt, "", "not a libvirt URI"),
            (Kind::Libvirt, "qemu:///system'<x>", "a character"),
            (Kind::Libvirt, "qemu:///sys\u{1b}[2Jtem", "a character"),
        ] {
            let said = fits(kind, uri).unwrap_err();
            assert!(said.contains(why) && said.contains(": write \""), "{uri}: {said}");
        }
    }
}
