//! AdamW with warm-up, clipping and an average of the weights, over the flat parameters of [`crate::weights`].
//!
//! burn has an AdamW; this one exists because decay must spare biases, the state must resume bit by bit from a
//! safetensors file, and all of it is a pass over one slice that costs nothing beside a training step.

use serde::{Deserialize, Serialize};

use crate::weights::{Layout, Weights};

/// Settings of the optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerSettings {
    /// Learning rate after the warm-up.
    pub rate: f32,
    /// Steps over which the rate rises from zero.
    pub warmup_steps: u64,
    /// Weight decay of convolution and linear weights, per unit of learning rate.
    pub decay: f32,
    /// Largest norm of the whole gradient; longer ones are shortened to it.
    pub clip: f32,
    /// Share of the old average that stays at each step. The average starts faster than this while there are few steps.
    pub average: f32,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            rate: 2e-3,
            warmup_steps: 100,
            decay: 1e-4,
            clip: 1.0,
            average: 0.999,
        }
    }
}

/// What the optimiser remembers between steps. The network that is shipped, the average, lies in the checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerState {
    /// The parameters being trained.
    pub live: Vec<f32>,
    /// Mean of the gradients.
    pub first_moment: Vec<f32>,
    /// Mean of their squares.
    pub second_moment: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

impl OptimizerState {
    /// The state before the first step from `weights`.
    pub fn fresh(weights: &Weights) -> Self {
        Self {
            live: weights.values.clone(),
            first_moment: vec![0.0; weights.values.len()],
            second_moment: vec![0.0; weights.values.len()],
            steps: 0,
        }
    }

    /// One step along `gradient`, and the average moved after it. Returns the gradient's norm before clipping.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn step(
        &mut self,
        settings: &OptimizerSettings,
        layout: &Layout,
        gradient: &[f32],
        average: &mut [f32],
    ) -> f32 {
        assert_eq!(
            gradient.len(),
            self.live.len(),
            "one gradient per parameter"
        );
        assert_eq!(average.len(), self.live.len(), "one average per parameter");
        self.steps += 1;
        let norm = norm(gradient);
        let scale = if norm > settings.clip {
            settings.clip / norm
        } else {
            1.0
        };
        let rate = settings.rate * warmup(self.steps, settings.warmup_steps);
        for tensor in layout.tensors() {
            let decay = if tensor.decays {
                rate * settings.decay
            } else {
                0.0
            };
            self.update(tensor.range.clone(), gradient, scale, rate, decay);
        }
        let keep = average_share(self.steps, settings.average);
        for (average, live) in average.iter_mut().zip(&self.live) {
            *average = keep * *average + (1.0 - keep) * live;
        }
        norm
    }

    fn update(
        &mut self,
        range: std::ops::Range<usize>,
        gradient: &[f32],
        scale: f32,
        rate: f32,
        decay: f32,
    ) {
        const BETA_1: f32 = 0.9;
        const BETA_2: f32 = 0.999;
        const EPSILON: f32 = 1e-8;
        let steps = self.steps.min(1 << 20) as i32;
        let (unbias_1, unbias_2) = (1.0 - BETA_1.powi(steps), 1.0 - BETA_2.powi(steps));
        for index in range {
            let gradient = gradient[index] * scale;
            let first = &mut self.first_moment[index];
            let second = &mut self.second_moment[index];
            *first = BETA_1 * *first + (1.0 - BETA_1) * gradient;
            *second = BETA_2 * *second + (1.0 - BETA_2) * gradient * gradient;
            let delta = (*first / unbias_1) / ((*second / unbias_2).sqrt() + EPSILON);
            let live = &mut self.live[index];
            *live = *live * (1.0 - decay) - rate * delta;
        }
    }
}

fn norm(gradient: &[f32]) -> f32 {
    let squares: f64 = gradient.iter().map(|value| f64::from(*value).powi(2)).sum();
    squares.sqrt() as f32
}

fn warmup(step: u64, steps: u64) -> f32 {
    if step >= steps {
        return 1.0;
    }
    step as f32 / steps as f32
}

/// The share of the old average kept at `step`: a plain mean of about the last tenth of all steps until that is slower
/// than `limit`.
fn average_share(step: u64, limit: f32) -> f32 {
    let step = step as f32;
    limit.min((step + 1.0) / (step + 10.0))
}

#[cfg(test)]
mod tests {
    use riftmesh_base::Seed;

    use super::*;
    use crate::weights::NetDims;

    fn small() -> Weights {
        let dims = NetDims {
            channels: 8,
            blocks: 1,
            planes: 2,
            globals: 2,
            action_planes: 2,
            specials: 1,
        };
        Weights::fresh(dims, Seed(3))
    }

    /// Minimises the squared distance to 1: every parameter arrives, and so does the average.
    #[test]
    fn descends_to_the_minimum() {
        let mut weights = small();
        let mut state = OptimizerState::fresh(&weights);
        let settings = OptimizerSettings {
            rate: 0.01,
            decay: 0.0,
            clip: 1e9,
            ..OptimizerSettings::default()
        };
        for _ in 0..1500 {
            let gradient: Vec<f32> = state.live.iter().map(|value| value - 1.0).collect();
            state.step(&settings, &weights.layout, &gradient, &mut weights.values);
        }
        assert!(state.live.iter().all(|value| (value - 1.0).abs() < 0.05));
        assert!(weights.values.iter().all(|value| (value - 1.0).abs() < 0.2));
    }

    /// Clipping bounds the step's norm, and decay spares biases.
    #[test]
    fn decays_weights_and_not_biases() {
        let mut weights = small();
        let mut state = OptimizerState::fresh(&weights);
        state.live.fill(1.0);
        let settings = OptimizerSettings {
            decay: 1.0,
            warmup_steps: 0,
            ..OptimizerSettings::default()
        };
        let zero = vec![0.0; state.live.len()];
        state.step(
            &settings,
            &weights.layout.clone(),
            &zero,
            &mut weights.values,
        );
        for tensor in weights.layout.tensors() {
            let expected = if tensor.decays {
                1.0 - settings.rate
            } else {
                1.0
            };
            assert!(
                state.live[tensor.range.clone()]
                    .iter()
                    .all(|&value| value == expected)
            );
        }
    }
}
