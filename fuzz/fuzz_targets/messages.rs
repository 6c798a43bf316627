//! Frames of an agent and of the harness.
#![no_main]

use bootrace_agent::protocol::{FromAgent, ToAgent, read_frame, write_frame};

/// Each frame that is read is written and read again to the same message.
fn read<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(mut data: &[u8]) {
    while let Ok(Some(message)) = read_frame::<T>(&mut data) {
        let mut again = Vec::new();
        if write_frame(&mut again, &message).is_ok() {
            assert_eq!(read_frame::<T>(&mut again.as_slice()).ok().flatten(), Some(message));
        }
    }
}

bootrace_fuzz::target!(|data| {
    read::<FromAgent>(data);
    read::<ToAgent>(data);
    // Nearly all mutations of a length are no frame: the same bytes as one payload.
    let frame = [&(data.len() as u32).to_le_bytes(), data].concat();
    read::<FromAgent>(&frame);
    read::<ToAgent>(&frame);
});
