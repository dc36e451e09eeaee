//! Room on a disk, from the system.

use std::path::Path;

/// Bytes that an ordinary user may still write to the file system that `path` is on; `None` where that is not known.
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub fn free_bytes(path: &Path) -> Option<u64> {
    use std::ffi::{CString, c_char, c_int};
    use std::os::unix::ffi::OsStrExt;

    /// `struct statvfs` of glibc and musl on 64-bit Linux: eleven words of which the second is the size of a block and
    /// the fifth the number of free ones; then words that this does not look at.
    type Words = [u64; 32];
    unsafe extern "C" {
        fn statvfs(path: *const c_char, into: *mut Words) -> c_int;
    }
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut words: Words = [0; 32];
    // SAFETY: the path ends with a zero byte, and what is written is less than half as long as `words`.
    let failed = unsafe { statvfs(path.as_ptr(), &mut words) };
    (failed == 0).then(|| words[1].saturating_mul(words[4]))
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
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
