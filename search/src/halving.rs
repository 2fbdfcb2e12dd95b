//! Sequential halving: which visit count the next root move must have.

/// For each of `simulations` simulations, the visit count that the root move to visit next must already have.
/// `considered` root moves take part in the first round, half of them in the next, and so on down to two.
///
/// Equal neighbours form a pass: one visit to each move of the round.
pub fn considered_visits(considered: u32, simulations: u32) -> Vec<u32> {
    if considered <= 1 {
        return (0..simulations).collect();
    }
    let rounds = u32::BITS - (considered - 1).leading_zeros();
    let mut visits = vec![0u32; considered as usize];
    let mut remaining = considered as usize;
    let mut sequence = Vec::with_capacity(simulations as usize + remaining);
    while sequence.len() < simulations as usize {
        let passes = (simulations as usize / (rounds as usize * remaining)).max(1);
        for _ in 0..passes {
            sequence.extend_from_slice(&visits[..remaining]);
            visits[..remaining].iter_mut().for_each(|count| *count += 1);
        }
        remaining = (remaining / 2).max(2);
    }
    sequence.truncate(simulations as usize);
    sequence
}
