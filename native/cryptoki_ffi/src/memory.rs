//! How the C library gives memory to libraries.

/// Blocks up to this size come from memory that was used before.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const REUSED: i32 = 4 << 20;

/// The VM sets how glibc gives memory back, which ends that glibc learns how large blocks are that come again and again:
/// each of 128 KiB or more is mapped and unmapped every time, page by page. A library that copies a megabyte a few times
/// takes several times as long then. So it is told what it would have learned.
pub fn reuse_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets numbers of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, REUSED);
        // As glibc itself would: what is given back in between would be faulted in again.
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * REUSED);
    }
}
