//! What disks, networks and malice do to a file, drawn from a seed.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Damaged copies a test looks at.
pub const COPIES: u64 = 1_000;

/// A kind of damage and where it may strike.
const KINDS: u32 = 8;

/// The generator of copy `number`.
pub fn generator(number: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(number)
}

/// A copy of `bytes` with one damage. `fields` lists where lengths, versions and offsets lie: numbers there are changed as
/// numbers, because that is what leads a reader furthest astray.
pub fn damaged(bytes: &[u8], fields: &[usize], rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    match rng.random_range(0..KINDS) {
        0 => flip_bits(&mut copy, rng),
        1 => copy.truncate(rng.random_range(0..bytes.len())),
        2 => change_number(&mut copy, fields, rng),
        3 => swap_blocks(&mut copy, rng),
        4 => {
            let (start, end) = block(&copy, rng);
            copy.drain(start..end);
        }
        5 => {
            let (start, end) = block(&copy, rng);
            let repeated = copy[start..end].to_vec();
            copy.splice(end..end, repeated);
        }
        6 => {
            let (start, end) = block(&copy, rng);
            copy[start..end].fill(0);
        }
        _ => {
            let noise: Vec<u8> = (0..rng.random_range(1..64)).map(|_| rng.random()).collect();
            let at = rng.random_range(0..=copy.len());
            copy.splice(at..at, noise);
        }
    }
    copy
}

fn flip_bits(copy: &mut [u8], rng: &mut Xoshiro256PlusPlus) {
    for _ in 0..rng.random_range(1..9) {
        let place = rng.random_range(0..copy.len());
        copy[place] ^= 1 << rng.random_range(0..8);
    }
}

/// Makes a number of two to eight bytes extreme, or off by one.
fn change_number(copy: &mut [u8], fields: &[usize], rng: &mut Xoshiro256PlusPlus) {
    let width = [2, 4, 8][rng.random_range(0..3)];
    let place = match fields {
        [] => rng.random_range(0..copy.len()),
        fields => fields[rng.random_range(0..fields.len())],
    };
    let end = (place + width).min(copy.len());
    let number = &mut copy[place..end];
    match rng.random_range(0..4) {
        0 => number.fill(0),
        1 => number.fill(0xff),
        2 => number[0] = number[0].wrapping_add(1),
        _ => number[0] = number[0].wrapping_sub(1),
    }
}

fn swap_blocks(copy: &mut [u8], rng: &mut Xoshiro256PlusPlus) {
    let length = rng.random_range(1..=copy.len() / 4);
    let first = rng.random_range(0..=copy.len() / 2 - length);
    let second = rng.random_range(copy.len() / 2..=copy.len() - length);
    let (head, tail) = copy.split_at_mut(second);
    head[first..first + length].swap_with_slice(&mut tail[..length]);
}

fn block(copy: &[u8], rng: &mut Xoshiro256PlusPlus) -> (usize, usize) {
    let start = rng.random_range(0..copy.len());
    let length = rng.random_range(1..=(copy.len() - start).min(512));
    (start, start + length)
}
