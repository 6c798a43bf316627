//! The image's file for the `[cow]` figures: reproducible bytes that no file system can compress.

use std::io::{self, BufWriter, Write};

use crate::scenario::CowFile;

/// Size in bytes; `None` if the scenario has no `[cow]`.
pub(super) fn bytes(copy: Option<CowFile>) -> Option<u64> {
    copy.map(|copy| copy.file.0)
}

/// Writes `bytes` bytes, a multiple of eight.
pub(super) fn write(to: impl Write, bytes: u64) -> io::Result<()> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let mut state = 0;
    for _ in 0..bytes / 8 {
        to.write_all(&next(&mut state).to_le_bytes())?;
    }
    to.flush()
}

/// SplitMix64 (Steele, Lea and Flood 2014). Its outputs don't repeat within 2^64, so no two blocks are equal.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_bytes_are_the_same_each_time_and_no_block_is_twice_among_them() {
        let make = || {
            let mut bytes = Vec::new();
            write(&mut bytes, 1 << 20).unwrap();
            bytes
        };
        let bytes = make();
        assert_eq!(bytes.len(), 1 << 20);
        assert_eq!(bytes, make());
        // The published first output for seed 0.
        assert_eq!(bytes[..8], 0xe220_a839_7b1d_cdaf_u64.to_le_bytes());
        assert_eq!(bytes.chunks(512).collect::<HashSet<_>>().len(), 2048);
        // Like random bytes: not compressible.
        let mut counts = [0_u32; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        assert!(counts.iter().all(|n| (3500..4700).contains(n)), "{counts:?}");
    }
}
