//! Unix sockets at paths longer than an address can have.

use std::{
    io,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

/// The longest path in a socket's address, in bytes; the address ends with a zero.
pub const LONGEST_ADDRESS: usize = 107;

/// Listens at a path of any length.
///
/// # Errors
/// When the socket can't be made there.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    by_short_name(path, |path| UnixListener::bind(path))
}

/// Connects to the socket at a path of any length.
///
/// # Errors
/// When nobody listens there.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    by_short_name(path, |path| UnixStream::connect(path))
}

/// Names the path by its open directory.
fn by_short_name<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    act(&PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_may_be_at_a_path_longer_than_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("control.sock");
        assert!(UnixListener::bind(&path).is_err(), "an address can have it");
        let listener = listen(&path).unwrap();
        let mut client = connect(&path).unwrap();
        io::Write::write_all(&mut client, b"x").unwrap();
        drop(client);
        let mut said = String::new();
        io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut said).unwrap();
        assert_eq!(said, "x");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
