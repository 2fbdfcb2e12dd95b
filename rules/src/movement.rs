//! Where a stack can go: plain moves, captures, placements (RULES sections 3, 5, 6, 7).

use std::convert::Infallible;
use std::ops::ControlFlow::{self, Break, Continue};

use crate::configuration::Seat;
use crate::content::Content;
use crate::rows::Rows;
use crate::state::{NO_CELL, State};
use crate::{Action, Cell};

/// A place where a stack can land, and the stack it captures on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Landing {
    pub(crate) over: Option<Cell>,
    pub(crate) to: Cell,
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> State<WORDS, CELLS, RINGS> {
    /// Calls `visit` for every landing of a stack of this height and cap on `from`, direction by direction and
    /// outwards, until it breaks.
    #[inline]
    pub(crate) fn landings<B>(
        &self,
        from: Cell,
        height: u16,
        cap: u16,
        mut visit: impl FnMut(Landing) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for ray in self.geometry.rays(from) {
            let mut over = None;
            for (to, distance) in ray.iter().copied().zip(1u16..) {
                let content = self.pieces.content(to);
                if content.is_passable() {
                    if distance >= height {
                        visit(Landing { over, to })?;
                    }
                } else if over.is_none() && content.is_stack() && self.pieces.stack(to).cap <= cap {
                    over = Some(to);
                } else {
                    break;
                }
            }
        }
        Continue(())
    }

    /// The number of cells a stack on `cell` can pass in its clearest direction, counted up to `enough`.
    #[inline]
    fn clear_reach(&self, cell: Cell, enough: u16) -> u16 {
        let mut best = 0;
        for ray in self.geometry.rays(cell) {
            let near = &ray[..ray.len().min(usize::from(enough))];
            let passable = |&&cell: &&Cell| self.pieces.content(cell).is_passable();
            best = best.max(near.iter().take_while(passable).count() as u16);
            if best == enough {
                break;
            }
        }
        best
    }

    /// Whether a stack of this height and cap on `cell` has a move or a capture.
    #[inline]
    pub(crate) fn could_act(&self, cell: Cell, height: u16, cap: u16) -> bool {
        self.could_act_within(self.clear_reach(cell, height), cell, height, cap)
    }

    /// As [`Self::could_act`], with the reach known: nearly always a plain move exists, and that is quickly seen.
    #[inline]
    fn could_act_within(&self, reach: u16, cell: Cell, height: u16, cap: u16) -> bool {
        reach >= height || self.landings(cell, height, cap, |_| Break(())).is_break()
    }

    /// Whether the stack on `cell` has a move or a capture.
    pub(crate) fn can_act(&self, cell: Cell) -> bool {
        let stack = self.pieces.stack(cell);
        self.could_act(cell, stack.height, stack.cap)
    }

    /// Whether the stack on `cell` has a capture.
    pub(crate) fn can_capture(&self, cell: Cell) -> bool {
        let stack = self.pieces.stack(cell);
        let captures = |landing: Landing| {
            if landing.over.is_some() {
                Break(())
            } else {
                Continue(())
            }
        };
        self.landings(cell, stack.height, stack.cap, captures)
            .is_break()
    }

    /// Whether any stack that `seat` controls can act.
    pub(crate) fn any_stack_can_act(&self, seat: Seat) -> bool {
        self.pieces
            .stacks_of(seat)
            .iter()
            .any(|cell| self.can_act(cell))
    }

    /// Whether `seat` has a real action: a single-ring placement, a move or a capture (RULES section 14).
    pub(crate) fn has_real_action(&self, seat: Seat) -> bool {
        let places =
            || (0..self.geometry.cells() as Cell).any(|cell| self.may_place_one(seat, cell));
        (self.score(seat).hand > 0 && places()) || self.any_stack_can_act(seat)
    }

    /// Whether `seat` may put one ring on `cell`, rings in hand granted.
    #[inline]
    fn may_place_one(&self, seat: Seat, cell: Cell) -> bool {
        let content = self.pieces.content(cell);
        if content == Content::EMPTY {
            return self.could_act(cell, 1, 1);
        }
        if !content.is_stack() {
            return false;
        }
        let stack = self.pieces.stack(cell);
        let cap = if content.owner() == seat {
            stack.cap + 1
        } else {
            1
        };
        self.could_act(cell, stack.height + 1, cap)
    }

    pub(crate) fn legal_placements(&self, actions: &mut Vec<Action>) {
        let hand = self.score(self.mover).hand;
        if self.swap_open && self.mover == Seat(1) {
            actions.push(Action::Swap);
        }
        let before = actions.len();
        if hand > 0 {
            self.list_placements(hand, actions);
            if self.may_skip_placement() {
                actions.push(Action::SkipPlacement);
            }
        }
        if actions.len() == before {
            actions.push(Action::NoPlacement);
        }
    }

    /// Every placement, by cell; `hand` is not 0.
    fn list_placements(&self, hand: u16, actions: &mut Vec<Action>) {
        let most = hand.min(3);
        let (stacks, collapsed) = (self.pieces.all_stacks(), self.pieces.all_collapsed());
        let passable = Rows::without(&(stacks | collapsed), self.geometry);
        let free = Rows::without(&(self.pieces.all_markers() | collapsed), self.geometry);
        let clear = passable.clear_ways(self.geometry)[usize::from(most) - 1];
        for (number, row) in self.geometry.rows().iter().enumerate() {
            // Nearly all: empty cells from which even the highest stack has a plain move.
            let simple = passable.row(number) & clear.row(number);
            let mut columns = free.row(number);
            while columns != 0 {
                let column = columns.trailing_zeros();
                columns &= columns - 1;
                let to = (row.start + column as usize - row.column) as Cell;
                if simple >> column & 1 != 0 {
                    push_placements(to, most, actions);
                } else {
                    self.legal_placements_on(to, hand, actions);
                }
            }
        }
    }

    #[inline]
    fn legal_placements_on(&self, to: Cell, hand: u16, actions: &mut Vec<Action>) {
        if self.pieces.content(to) != Content::EMPTY {
            if self.may_place_one(self.mover, to) {
                actions.push(Action::Place { to, count: 1 });
            }
            return;
        }
        let most = hand.min(3);
        let reach = self.clear_reach(to, most);
        // Two and three rings are offered only where one is, even if only their larger cap could capture.
        if !self.could_act_within(reach, to, 1, 1) {
            return;
        }
        for count in 1..=most {
            if count == 1 || self.could_act_within(reach, to, count, count) {
                actions.push(Action::Place {
                    to,
                    count: count as u8,
                });
            }
        }
    }

    fn may_skip_placement(&self) -> bool {
        if self.controls_any(self.mover) {
            self.any_stack_can_act(self.mover)
        } else {
            self.may_recover(self.mover)
        }
    }

    pub(crate) fn legal_movements(&self, actions: &mut Vec<Action>) {
        if self.anchor != NO_CELL {
            self.moves_of(self.anchor, actions);
        } else if self.controls_any(self.mover) {
            for from in self.own_stacks().iter() {
                self.moves_of(from, actions);
            }
        } else if self.may_recover(self.mover) {
            self.legal_recoveries(actions);
            actions.push(Action::SkipRecovery);
        }
        if actions.is_empty() {
            actions.push(Action::NoMovement);
        }
    }

    fn moves_of(&self, from: Cell, actions: &mut Vec<Action>) {
        self.each_landing(from, |Landing { over, to }| {
            actions.push(match over {
                None => Action::Move { from, to },
                Some(over) => Action::Capture { from, over, to },
            });
        });
    }

    /// Captures by the anchor stack: as a first segment with the option to skip, or as a mandatory continuation.
    pub(crate) fn legal_captures(&self, chained: bool, actions: &mut Vec<Action>) {
        let from = self.anchor;
        self.each_landing(from, |Landing { over, to }| {
            let capture = |over| {
                if chained {
                    Action::ContinueCapture { from, over, to }
                } else {
                    Action::Capture { from, over, to }
                }
            };
            actions.extend(over.map(capture));
        });
        if !chained {
            actions.push(Action::SkipCapture);
        }
    }

    #[inline]
    fn each_landing(&self, from: Cell, mut visit: impl FnMut(Landing)) {
        let stack = self.pieces.stack(from);
        let visit_all = |landing| {
            visit(landing);
            Continue::<Infallible>(())
        };
        let Continue(()) = self.landings(from, stack.height, stack.cap, visit_all);
    }
}

/// One to `most` rings (at most three) on `to`.
#[inline]
fn push_placements(to: Cell, most: u16, actions: &mut Vec<Action>) {
    let all = [1, 2, 3].map(|count| Action::Place { to, count });
    if most == 3 {
        // A copy of known length is a few stores, any other a call.
        actions.extend_from_slice(&all);
    } else {
        actions.extend_from_slice(&all[..usize::from(most)]);
    }
}
