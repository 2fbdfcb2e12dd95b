//! The process's entropy, made from a seed: this program defines the function that the standard library and every
//! generator ask for it.
//!
//! Hashers' keys order wake-ups inside tokio, and openraft draws its election timeouts from a generator that is seeded
//! here, so two processes with one seed run alike.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// Starts the stream of `seed`.
pub fn plant(seed: u64) {
    STATE.store(seed, Ordering::SeqCst);
}

/// SplitMix64.
fn next() -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut z = STATE.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Stands in for the C library's function of this name.
///
/// # Safety
/// `buffer` must be valid for writing `length` bytes, as for the original.
#[expect(
    unsafe_code,
    reason = "the C library's function is replaced by one of the same signature"
)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    for at in 0..length {
        // SAFETY: the caller promises that `length` bytes may be written.
        unsafe { buffer.add(at).write(next() as u8) };
    }
    length.cast_signed()
}
