//! The search as a state machine.

use rand::Rng;

use crate::evaluator::{Evaluation, Leaf};
use crate::game::Game;
use crate::halving::considered_visits;
use crate::noise;
use crate::settings::{Algorithm, GumbelSettings, PuctSettings, RootBatching, SearchSettings};
use crate::transform::{TreeNodeView, argmax, puct_scores, softmax};
use crate::tree::{NodeIndex, ROOT, Tree};
use crate::values::SeatValues;

/// What the search needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The evaluations of [`Search::leaves`], handed to [`Search::resume`].
    Evaluate,
    /// Nothing: read the [`Search::outcome`].
    Done,
}

/// One search of one decision, in progress.
///
/// The driver calls [`step`](Self::step); while that returns [`Step::Evaluate`], it evaluates
/// [`leaves`](Self::leaves) in any way and at any time and calls [`resume`](Self::resume). Between the two calls
/// the driver may do anything else, such as stepping other searches into the same batch.
///
/// Memory: at most `simulations + 1` positions with their legal moves.
#[derive(Debug, Clone)]
pub struct Search<G: Game> {
    simulations: u32,
    algorithm: Algorithm,
    tree: Tree<G>,
    /// Gumbel: one number per root move. PUCT: the Dirichlet point, or empty for none.
    noise: Vec<f64>,
    /// Gumbel: the visit count the next root move must have, per simulation. PUCT: empty.
    schedule: Vec<u32>,
    /// The leaf each simulation begun so far ended at.
    leaves: Vec<NodeIndex>,
    /// Nodes waiting for their evaluation.
    pending: Vec<NodeIndex>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchOutcome<A> {
    /// The legal moves of the root, in the game's order; the vectors below are indexed alike.
    pub actions: Vec<A>,
    /// The search's choice, an index into `actions`.
    pub chosen: usize,
    /// The training target, sums to 1. Gumbel: the improved policy. PUCT: the shares of visits.
    pub policy: Vec<f64>,
    /// Visits behind each move.
    pub visits: Vec<u32>,
    /// Mean values behind each move, none where unvisited.
    pub move_values: Vec<Option<SeatValues>>,
    /// Mean values at the root over all visits, its own evaluation included.
    pub values: SeatValues,
    /// The evaluator's values of the root.
    pub raw_values: SeatValues,
    /// Positions in the tree.
    pub nodes: usize,
}

impl<A: Copy> SearchOutcome<A> {
    /// The search's choice.
    pub fn action(&self) -> A {
        self.actions[self.chosen]
    }
}

impl<G: Game> Search<G> {
    /// A search from `root`. Root noise is drawn from `rng`, and nothing else ever is.
    ///
    /// # Panics
    /// When `root` is a finished game.
    pub fn new(root: G, settings: SearchSettings, rng: &mut impl Rng) -> Self {
        let mut search = Self::with_noise(root, settings, Vec::new());
        let moves = search.tree.node(ROOT).actions.len();
        search.noise = match settings.algorithm {
            Algorithm::Gumbel(gumbel) => noise::gumbel(moves, gumbel.noise_scale, rng),
            Algorithm::Puct(puct) if puct.dirichlet_weight > 0.0 => {
                noise::dirichlet(moves, puct.dirichlet_total, rng)
            }
            Algorithm::Puct(_) => Vec::new(),
        };
        search
    }

    /// A search with the given root noise: for Gumbel what is added to each root logit, for PUCT the point that
    /// is mixed into the root's priors. Empty for none.
    ///
    /// # Panics
    /// When `root` is a finished game, or the noise is neither empty nor one number per legal move.
    pub fn with_noise(root: G, settings: SearchSettings, noise: Vec<f64>) -> Self {
        let tree = Tree::new(root, settings.simulations as usize + 1);
        let moves = tree.node(ROOT).actions.len();
        assert!(moves > 0, "a search needs a decision, not a finished game");
        assert!(
            noise.is_empty() || noise.len() == moves,
            "{} noise numbers for {moves} moves",
            noise.len()
        );
        let schedule = match settings.algorithm {
            Algorithm::Gumbel(gumbel) => {
                let considered = gumbel.considered_max.min(moves as u32);
                considered_visits(considered, settings.simulations)
            }
            Algorithm::Puct(_) => Vec::new(),
        };
        let noise = match settings.algorithm {
            Algorithm::Gumbel(_) if noise.is_empty() => vec![0.0; moves],
            Algorithm::Gumbel(_) | Algorithm::Puct(_) => noise,
        };
        Self {
            simulations: settings.simulations,
            algorithm: settings.algorithm,
            tree,
            noise,
            schedule,
            leaves: Vec::with_capacity(settings.simulations as usize),
            pending: vec![ROOT],
        }
    }

    /// Goes on until evaluations are needed or the budget is spent. Calling it again before
    /// [`resume`](Self::resume) changes nothing.
    pub fn step(&mut self) -> Step {
        while self.pending.is_empty() {
            if self.leaves.len() >= self.simulations as usize {
                return Step::Done;
            }
            for edge in self.next_root_edges() {
                self.simulate(edge);
            }
        }
        Step::Evaluate
    }

    /// The positions whose evaluations are awaited, each with its legal moves.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = Leaf<'_, G>> {
        self.pending.iter().map(|index| {
            let node = self.tree.node(*index);
            Leaf {
                game: &node.game,
                actions: &node.actions,
            }
        })
    }

    /// Takes the evaluations of [`leaves`](Self::leaves), in their order.
    ///
    /// # Panics
    /// When there are not as many as leaves, or not as many logits as legal moves, or a number is not finite:
    /// a broken evaluator must not steer a search.
    pub fn resume(&mut self, evaluations: impl IntoIterator<Item = Evaluation>) {
        let pending = std::mem::take(&mut self.pending);
        let mut evaluations = evaluations.into_iter();
        for index in pending {
            let Some(evaluation) = evaluations.next() else {
                panic!("fewer evaluations than leaves")
            };
            self.check_evaluation(index, &evaluation);
            self.tree.set_evaluation(index, evaluation);
            self.tree.backup(index);
        }
        assert!(evaluations.next().is_none(), "more evaluations than leaves");
    }

    /// What was found so far; final after [`Step::Done`].
    ///
    /// # Panics
    /// Before the root was evaluated.
    pub fn outcome(&self) -> SearchOutcome<G::Action> {
        let root = self.tree.node(ROOT);
        assert!(root.visits > 0, "the root has not been evaluated");
        let (visits, q) = self.tree.edge_statistics(ROOT);
        let view = self.view(ROOT, &visits, &q);
        let (chosen, policy) = match self.algorithm {
            Algorithm::Gumbel(settings) => self.gumbel_result(&settings, view),
            Algorithm::Puct(_) => puct_result(view),
        };
        SearchOutcome {
            actions: root.actions.clone(),
            chosen,
            policy,
            move_values: (0..visits.len())
                .map(|edge| self.tree.edge_values(ROOT, edge))
                .collect(),
            visits,
            values: root.mean(),
            raw_values: root.raw,
            nodes: self.tree.len(),
        }
    }

    /// For each simulation begun so far, the path it took: indices into the legal moves of each position, ending
    /// at the position first reached or at a finished game.
    pub fn paths(&self) -> impl Iterator<Item = Vec<u32>> {
        self.leaves.iter().map(|leaf| self.tree.path(*leaf))
    }

    fn check_evaluation(&self, index: NodeIndex, evaluation: &Evaluation) {
        let node = self.tree.node(index);
        let moves = node.actions.len();
        assert_eq!(
            evaluation.logits.len(),
            moves,
            "an evaluation has one logit per legal move"
        );
        let values = evaluation.values.seats(node.game.players());
        let finite = evaluation
            .logits
            .iter()
            .chain(values)
            .all(|number| number.is_finite());
        assert!(
            finite,
            "an evaluation has a number that is not finite: {values:?}, {:?}",
            evaluation.logits
        );
    }

    /// The root moves of the next simulations, which can be begun together.
    fn next_root_edges(&self) -> Vec<usize> {
        let (visits, q) = self.tree.edge_statistics(ROOT);
        let view = self.view(ROOT, &visits, &q);
        match self.algorithm {
            Algorithm::Gumbel(settings) => self.gumbel_root_edges(&settings, view),
            Algorithm::Puct(settings) => vec![argmax(&puct_scores(
                &settings,
                view,
                &self.root_priors(&settings),
            ))],
        }
    }

    /// The best moves among those with the visits the schedule asks for: one, or as many as the pass has left.
    fn gumbel_root_edges(&self, settings: &GumbelSettings, view: TreeNodeView<'_>) -> Vec<usize> {
        let rest = &self.schedule[self.leaves.len()..];
        let scores = settings.transform.root_scores(view, &self.noise, rest[0]);
        match settings.batching {
            RootBatching::Single => vec![argmax(&scores)],
            RootBatching::Round => {
                let pass = rest
                    .iter()
                    .take_while(|required| **required == rest[0])
                    .count();
                let mut ranked: Vec<usize> = (0..scores.len())
                    .filter(|i| view.visits[*i] == rest[0])
                    .collect();
                ranked.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
                ranked.truncate(pass);
                ranked
            }
        }
    }

    fn gumbel_result(
        &self,
        settings: &GumbelSettings,
        view: TreeNodeView<'_>,
    ) -> (usize, Vec<f64>) {
        let most = view.visits.iter().copied().max().unwrap_or(0);
        let scores = settings.transform.root_scores(view, &self.noise, most);
        (argmax(&scores), settings.transform.improved_policy(view))
    }

    fn root_priors(&self, settings: &PuctSettings) -> Vec<f64> {
        let mut priors = softmax(&self.tree.node(ROOT).logits);
        for (prior, noise) in priors.iter_mut().zip(&self.noise) {
            *prior += settings.dirichlet_weight * (noise - *prior);
        }
        priors
    }

    /// Walks from the root over `edge` to a position not reached before, which then waits for its evaluation, or
    /// to a finished game, which is backed up at once.
    fn simulate(&mut self, edge: usize) {
        let (mut at, mut edge) = (ROOT, edge);
        let leaf = loop {
            match self.tree.child(at, edge) {
                None => break self.tree.add_child(at, edge),
                Some(child) if self.tree.node(child).mover.is_none() => break child,
                Some(child) => at = child,
            }
            edge = self.interior_edge(at);
        };
        self.leaves.push(leaf);
        if self.tree.node(leaf).mover.is_none() {
            self.tree.backup(leaf);
        } else {
            self.pending.push(leaf);
        }
    }

    fn interior_edge(&self, index: NodeIndex) -> usize {
        let (visits, q) = self.tree.edge_statistics(index);
        let view = self.view(index, &visits, &q);
        match self.algorithm {
            Algorithm::Gumbel(settings) => argmax(&settings.transform.interior_scores(view)),
            Algorithm::Puct(settings) => {
                argmax(&puct_scores(&settings, view, &softmax(view.logits)))
            }
        }
    }

    fn view<'a>(&'a self, index: NodeIndex, visits: &'a [u32], q: &'a [f64]) -> TreeNodeView<'a> {
        let node = self.tree.node(index);
        let raw = node.mover.map_or(0.0, |mover| node.raw[mover]);
        TreeNodeView {
            logits: &node.logits,
            visits,
            q,
            raw,
        }
    }
}

/// The most visited move, and the shares of visits; the priors when nothing was visited.
fn puct_result(view: TreeNodeView<'_>) -> (usize, Vec<f64>) {
    let total: u32 = view.visits.iter().sum();
    if total == 0 {
        let priors = softmax(view.logits);
        return (argmax(&priors), priors);
    }
    let policy: Vec<f64> = view
        .visits
        .iter()
        .map(|visits| f64::from(*visits) / f64::from(total))
        .collect();
    (argmax(&policy), policy)
}
