//! Saving a domain with its memory to a file, for which virt has no call.

use std::{ffi::CString, path::Path};

use virt::{domain::Domain, error::Error};
use virt_sys as sys;

/// Pauses the domain, writes its memory to a file, and ends it. Blocks until that is done.
///
/// # Errors
/// libvirt's; also when the path can't be one.
pub(super) fn save(domain: &Domain, to: &Path) -> Result<(), String> {
    let path = CString::new(to.as_os_str().as_encoded_bytes())
        .map_err(|_| format!("{}: no path holds a zero byte", to.display()))?;
    // SAFETY: the domain is open as long as it is borrowed, and libvirt copies the path.
    match unsafe { sys::virDomainSave(domain.as_ptr(), path.as_ptr()) } {
        0 => Ok(()),
        _ => Err(super::fix::explain(&Error::last_error())),
    }
}
