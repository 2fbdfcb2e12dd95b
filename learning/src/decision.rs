//! A game as the search and the network see it: only positions at which somebody has a choice.

use rand::Rng;
use riftmesh_rules::{Action, Cell, Configuration, Position, RuleOptions, Seat};
use riftmesh_search::{Game, SeatValues, heuristic_action};

/// What a decider may choose.
///
/// A recovery slide carries a second choice (which stack pays, or which window collapses), so it is chosen in two
/// steps by the same player: first the slide, then the action that completes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Choice {
    /// A whole action.
    Act(Action),
    /// The first step of every recovery that slides the marker on `from` to `to`.
    Slide {
        /// The marker.
        from: Cell,
        /// Where it slides, or the stack it strikes.
        to: Cell,
    },
}

/// A recovery slide that was chosen and is not completed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SlidePrefix {
    /// The marker.
    pub from: Cell,
    /// Where it slides, or the stack it strikes.
    pub to: Cell,
}

impl SlidePrefix {
    fn of(action: Action) -> Option<Self> {
        match action {
            Action::RecoverLineAll { from, to, .. }
            | Action::RecoverLineWindow { from, to, .. }
            | Action::RecoverFallback { from, to, .. }
            | Action::RecoverStrike { from, to, .. } => Some(Self { from, to }),
            _ => None,
        }
    }
}

/// A position with two or more choices, or a finished game. Actions without an alternative are played on the way.
#[derive(Debug, Clone)]
pub struct Decision {
    position: Position,
    prefix: Option<SlidePrefix>,
    choices: Vec<Choice>,
}

impl Decision {
    /// The first decision of a standard game.
    pub fn start(configuration: Configuration, options: RuleOptions) -> Self {
        Self::after(Position::start(configuration, options), &mut |_| {})
    }

    /// The first decision at or after `position`. Forced actions on the way are told to `played`.
    pub fn after(position: Position, played: &mut impl FnMut(Action)) -> Self {
        let mut decision = Self {
            position,
            prefix: None,
            choices: Vec::new(),
        };
        decision.settle(played);
        decision
    }

    /// Makes one of [`choices`](Self::choices) and goes on to the next decision. The actions that this plays, forced
    /// ones included and none for the first step of a slide, are told to `played` in order.
    pub fn choose(&mut self, choice: Choice, played: &mut impl FnMut(Action)) {
        match choice {
            Choice::Slide { from, to } => self.prefix = Some(SlidePrefix { from, to }),
            Choice::Act(action) => self.act(action, played),
        }
        self.settle(played);
    }

    fn act(&mut self, action: Action, played: &mut impl FnMut(Action)) {
        self.position.apply(action);
        self.prefix = None;
        played(action);
    }

    /// Plays what has no alternative and leaves the next choices listed.
    fn settle(&mut self, played: &mut impl FnMut(Action)) {
        let mut legal = Vec::new();
        loop {
            self.position.legal(&mut legal);
            self.list_choices(&legal);
            match self.choices[..] {
                [Choice::Act(only)] => self.act(only, played),
                [Choice::Slide { from, to }] => self.prefix = Some(SlidePrefix { from, to }),
                _ => return,
            }
        }
    }

    fn list_choices(&mut self, legal: &[Action]) {
        self.choices.clear();
        let prefix = self.prefix;
        if prefix.is_some() {
            let completing = legal
                .iter()
                .filter(|action| SlidePrefix::of(**action) == prefix);
            self.choices.extend(completing.copied().map(Choice::Act));
            return;
        }
        for &action in legal {
            let choice = first_step(action);
            // The completions of one slide stand next to each other in the legal list.
            if !matches!(choice, Choice::Slide { .. }) || self.choices.last() != Some(&choice) {
                self.choices.push(choice);
            }
        }
    }

    /// The choices, in the order of the legal actions; none when the game is over, else at least two.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The choice that leads to `action`, which must be legal: the action, or the slide it begins with.
    pub fn choice_toward(&self, action: Action) -> Choice {
        match self.prefix {
            Some(_) => Choice::Act(action),
            None => first_step(action),
        }
    }

    /// The choice of the heuristic player; `rng` breaks ties.
    ///
    /// # Panics
    /// When the game is over.
    pub fn heuristic_choice(&self, rng: &mut impl Rng) -> Choice {
        let mut actions = Vec::new();
        self.position.legal(&mut actions);
        if self.prefix.is_some() {
            actions.retain(|action| SlidePrefix::of(*action) == self.prefix);
        }
        self.choice_toward(heuristic_action(&self.position, &actions, rng))
    }

    /// The position; within a split slide, the one before it.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The slide that waits for its second step.
    pub fn prefix(&self) -> Option<SlidePrefix> {
        self.prefix
    }

    /// Who decides; none when the game is over.
    pub fn decider(&self) -> Option<Seat> {
        self.position.to_move()
    }

    /// A number that is equal for equal decisions, for caching evaluations within one process.
    pub fn key(&self) -> u64 {
        let prefix = self.prefix.map_or(0, |prefix| {
            1 + u64::from(prefix.from) + (u64::from(prefix.to) << 16)
        });
        self.position.key() ^ prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

fn first_step(action: Action) -> Choice {
    match SlidePrefix::of(action) {
        Some(SlidePrefix { from, to }) => Choice::Slide { from, to },
        None => Choice::Act(action),
    }
}

impl Game for Decision {
    type Action = Choice;

    fn players(&self) -> usize {
        self.position.configuration().players()
    }

    fn mover(&self) -> Option<usize> {
        self.decider().map(Seat::index)
    }

    fn terminal_values(&self) -> SeatValues {
        self.position
            .outcome()
            .map_or_else(SeatValues::default, |outcome| {
                SeatValues::winner(outcome.winner.index())
            })
    }

    fn actions(&self, actions: &mut Vec<Choice>) {
        actions.extend_from_slice(&self.choices);
    }

    fn exchanges_seats(&self, action: Choice) -> bool {
        action == Choice::Act(Action::Swap)
    }

    fn play(&mut self, action: Choice) {
        self.choose(action, &mut |_| {});
    }
}
