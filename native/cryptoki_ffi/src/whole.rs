//! Whether the file of a library is all there. The dynamic loader maps what the headers of a file say; where half of it
//! is missing it touches what is not there, and the process ends with SIGBUS.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More program headers than any library has, with the header of the file before them.
const HEAD: u64 = 64 << 10;
/// Of ELF, 64 bits, little-endian: the only one whose headers are read here.
const MAGIC: &[u8] = &[0x7F, b'E', b'L', b'F', 2, 1];

/// How many bytes are missing, if the file says how many there should be.
pub fn missing(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head).ok()?;
    wanted(&head)?.checked_sub(size).filter(|few| *few > 0)
}

/// Where the last segment ends.
fn wanted(head: &[u8]) -> Option<u64> {
    if !head.starts_with(MAGIC) {
        return None;
    }
    let first = usize::try_from(word(head, 32)?).ok()?;
    let (each, count) = (half(head, 54)?, half(head, 56)?);
    let ends = (0..count).filter_map(|number| {
        let at = first.checked_add(usize::from(number) * usize::from(each))?;
        word(head, at.checked_add(8)?)?.checked_add(word(head, at.checked_add(32)?)?)
    });
    ends.max()
}

fn word(head: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?))
}

fn half(head: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_whole_and_what_is_no_elf_says_nothing() {
        let own = std::env::current_exe().expect("a test");
        assert_eq!(missing(&own), None);
        assert_eq!(missing(Path::new("Cargo.toml")), None);
        assert_eq!(missing(Path::new("/nonexistent")), None);
    }

    #[test]
    fn a_file_that_is_cut_misses_the_rest_wherever_it_is_cut() {
        let mut head = vec![0; 64 + 2 * 56];
        head[..6].copy_from_slice(MAGIC);
        head[32] = 64;
        (head[54], head[56]) = (56, 2);
        for (number, (offset, filled)) in [(0_u64, 100_u64), (4096, 500)].into_iter().enumerate() {
            let at = 64 + 56 * number;
            head[at + 8..at + 16].copy_from_slice(&offset.to_le_bytes());
            head[at + 32..at + 40].copy_from_slice(&filled.to_le_bytes());
        }
        assert_eq!(wanted(&head), Some(4596));
        // Headers that are cut off, or lie, are the loader's to refuse.
        assert_eq!(wanted(&head[..40]), None);
        head[32..40].fill(0xFF);
        assert_eq!(wanted(&head), None);
    }
}
