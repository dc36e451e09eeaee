//! Room on a disk, from the system.

use std::path::Path;

/// Bytes that an ordinary user may still write to the file system that `path` is on; `None` where that is not known.
pub fn free_bytes(path: &Path) -> Option<u64> {
    use std::ffi::CString;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;

    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut room = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the struct is the one that the call fills.
    let failed = unsafe { libc::statvfs(path.as_ptr(), room.as_mut_ptr()) };
    if failed != 0 {
        return None;
    }
    // SAFETY: filled, since the call did not fail.
    let room = unsafe { room.assume_init() };
    Some(room.f_frsize.saturating_mul(room.f_bavail))
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_a_disk_of_this_world() {
        let path = std::env::temp_dir();
        let free = super::free_bytes(&path).unwrap();
        let said = std::process::Command::new("df").args(["-B1", "--output=avail"]).arg(&path).output().unwrap();
        let said: u64 = String::from_utf8(said.stdout).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
        assert!(free.abs_diff(said) < said / 10 + (1 << 30), "{free} here, {said} by df");
        assert_eq!(super::free_bytes(std::path::Path::new("/nowhere")), None);
    }
}
