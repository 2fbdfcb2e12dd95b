//! Random numbers of the root, drawn from a generator that the caller passes in.

use rand::Rng;
use rand_distr::{Distribution, Gamma, Gumbel};

/// `count` independent standard Gumbel numbers multiplied by `scale`. Draws nothing when `scale` is 0.
pub fn gumbel(count: usize, scale: f64, rng: &mut impl Rng) -> Vec<f64> {
    if scale == 0.0 {
        return vec![0.0; count];
    }
    #[expect(
        clippy::expect_used,
        reason = "location 0 and scale 1 are valid parameters"
    )]
    let standard = Gumbel::new(0.0, 1.0).expect("the standard Gumbel distribution exists");
    (0..count).map(|_| scale * standard.sample(rng)).collect()
}

/// A point of the symmetric Dirichlet distribution over `count` moves with parameters that sum to `total`.
///
/// # Panics
/// When `total` is not positive and finite.
pub fn dirichlet(count: usize, total: f64, rng: &mut impl Rng) -> Vec<f64> {
    #[expect(clippy::expect_used, reason = "documented panic")]
    let gamma =
        Gamma::new(total / count as f64, 1.0).expect("the Dirichlet total is positive and finite");
    let mut weights: Vec<f64> = (0..count).map(|_| gamma.sample(rng)).collect();
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|weight| *weight /= sum);
    } else {
        // All draws underflowed: the limit of tiny parameters puts everything on one move; even shares are
        // the mean of that and keep the noise symmetric.
        weights.fill(1.0 / count as f64);
    }
    weights
}
