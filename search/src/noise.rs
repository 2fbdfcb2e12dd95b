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

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::SeedableRng;

    /// The mean of the standard Gumbel distribution is Euler's constant.
    #[test]
    fn gumbel_numbers_have_the_right_mean() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let draws = gumbel(20_000, 1.0, &mut rng);
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.577_2).abs() < 0.03, "{mean}");
        assert_eq!(gumbel(3, 0.0, &mut rng), [0.0; 3]);
    }

    /// Points of the simplex, also when every parameter is tiny.
    #[test]
    fn dirichlet_points_sum_to_one() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for (count, total) in [(1, 10.0), (40, 10.0), (1_400, 10.0), (50, 1e-6)] {
            let point = dirichlet(count, total, &mut rng);
            assert_eq!(point.len(), count);
            assert!(
                (point.iter().sum::<f64>() - 1.0).abs() < 1e-9 && point.iter().all(|p| *p >= 0.0)
            );
        }
    }
}
