//! What lies on the cells: stacks of rings, markers and collapsed cells.
//!
//! One byte per cell says what it holds, bit sets say where each player's things are, and the rings of all stacks
//! share one pool of linked nodes, so that a position has a fixed size however high stacks grow.

use crate::cells::BitSet;
use crate::configuration::{PLAYERS_MAX, Seat};
use crate::content::{CellContent, Content};
use crate::hash::mix;
use crate::{Cell, Geometry};

/// No node.
const NIL: u16 = u16::MAX;

/// A stack of rings; height 0 means that there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stack {
    top: u16,
    bottom: u16,
    /// Rings.
    pub(crate) height: u16,
    /// Rings from the top down that have the top ring's colour.
    pub(crate) cap: u16,
}

impl Stack {
    const NONE: Self = Self {
        top: NIL,
        bottom: NIL,
        height: 0,
        cap: 0,
    };
}

/// The nodes of all rings. Free nodes are linked through `below` too.
#[derive(Debug, Clone)]
struct Pool<const RINGS: usize> {
    colour: [u8; RINGS],
    below: [u16; RINGS],
    free: u16,
}

impl<const RINGS: usize> Pool<RINGS> {
    fn new() -> Self {
        let next = |i: usize| if i + 1 < RINGS { (i + 1) as u16 } else { NIL };
        Self {
            colour: [0; RINGS],
            below: std::array::from_fn(next),
            free: 0,
        }
    }

    /// # Panics
    /// When more rings are on the board than exist, which ring conservation excludes.
    fn take(&mut self, colour: Seat, below: u16) -> u16 {
        let node = self.free;
        let i = usize::from(node);
        self.free = self.below[i];
        self.colour[i] = colour.0;
        self.below[i] = below;
        node
    }

    fn give_back(&mut self, node: u16) {
        self.below[usize::from(node)] = self.free;
        self.free = node;
    }
}

/// The colours of a stack's rings, top first.
#[derive(Debug, Clone)]
pub struct Rings<'a> {
    colour: &'a [u8],
    below: &'a [u16],
    node: u16,
}

impl Iterator for Rings<'_> {
    type Item = Seat;

    #[inline]
    fn next(&mut self) -> Option<Seat> {
        if self.node == NIL {
            return None;
        }
        let node = usize::from(self.node);
        self.node = self.below[node];
        Some(Seat(self.colour[node]))
    }
}

/// The board's content. `WORDS` words hold a cell set, `CELLS` and `RINGS` bound what any board of this size has.
#[derive(Debug, Clone)]
pub(crate) struct Pieces<const WORDS: usize, const CELLS: usize, const RINGS: usize> {
    content: [Content; CELLS],
    stacks: [Stack; CELLS],
    pool: Pool<RINGS>,
    stacks_of: [BitSet<WORDS>; PLAYERS_MAX],
    markers_of: [BitSet<WORDS>; PLAYERS_MAX],
    collapsed_of: [BitSet<WORDS>; PLAYERS_MAX],
    rings_of: [u16; PLAYERS_MAX],
    key: u64,
}

impl<const WORDS: usize, const CELLS: usize, const RINGS: usize> Pieces<WORDS, CELLS, RINGS> {
    pub(crate) fn new() -> Self {
        Self {
            content: [Content::EMPTY; CELLS],
            stacks: [Stack::NONE; CELLS],
            pool: Pool::new(),
            stacks_of: [BitSet::EMPTY; PLAYERS_MAX],
            markers_of: [BitSet::EMPTY; PLAYERS_MAX],
            collapsed_of: [BitSet::EMPTY; PLAYERS_MAX],
            rings_of: [0; PLAYERS_MAX],
            key: 0,
        }
    }

    #[inline]
    pub(crate) fn content(&self, cell: Cell) -> Content {
        self.content[usize::from(cell)]
    }

    /// The stack on `cell`; meaningful only where [`Content::is_stack`].
    #[inline]
    pub(crate) fn stack(&self, cell: Cell) -> Stack {
        self.stacks[usize::from(cell)]
    }

    /// Cells with stacks that `seat` controls.
    #[inline]
    pub(crate) fn stacks_of(&self, seat: Seat) -> &BitSet<WORDS> {
        &self.stacks_of[seat.index()]
    }

    #[inline]
    pub(crate) fn markers_of(&self, seat: Seat) -> &BitSet<WORDS> {
        &self.markers_of[seat.index()]
    }

    #[inline]
    pub(crate) fn collapsed_of(&self, seat: Seat) -> &BitSet<WORDS> {
        &self.collapsed_of[seat.index()]
    }

    pub(crate) fn all_stacks(&self) -> BitSet<WORDS> {
        union(&self.stacks_of)
    }

    pub(crate) fn all_markers(&self) -> BitSet<WORDS> {
        union(&self.markers_of)
    }

    pub(crate) fn all_collapsed(&self) -> BitSet<WORDS> {
        union(&self.collapsed_of)
    }

    /// Rings of this colour on the board, buried ones included.
    #[inline]
    pub(crate) fn rings_of(&self, seat: Seat) -> u16 {
        self.rings_of[seat.index()]
    }

    /// Hash of everything on the board.
    #[inline]
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// The stack on `cell`, if there is one.
    pub(crate) fn stack_on(&self, cell: Cell) -> Option<Stack> {
        self.content(cell).is_stack().then(|| self.stack(cell))
    }

    /// The rings on `cell`, top first.
    pub(crate) fn rings(&self, cell: Cell) -> Rings<'_> {
        let node = self.stack_on(cell).map_or(NIL, |stack| stack.top);
        Rings {
            colour: &self.pool.colour,
            below: &self.pool.below,
            node,
        }
    }

    /// Whether the stack on `cell` holds a ring of `seat` below its top.
    pub(crate) fn has_buried(&self, cell: Cell, seat: Seat) -> bool {
        self.rings(cell).skip(1).any(|colour| colour == seat)
    }

    /// Cells whose stacks hold a buried ring of `seat`.
    pub(crate) fn buried_of(&self, seat: Seat) -> BitSet<WORDS> {
        if self.rings_of(seat) == 0 {
            return BitSet::EMPTY;
        }
        self.all_stacks()
            .iter()
            .filter(|&cell| self.has_buried(cell, seat))
            .collect()
    }

    fn simple_key(cell: Cell, content: Content) -> u64 {
        mix(u64::from(cell) << 8 | u64::from(content.code()))
    }

    fn stack_key(&self, cell: Cell) -> u64 {
        self.rings(cell)
            .fold(mix(u64::from(cell) << 8 | 1), |hash, colour| {
                (hash.rotate_left(7) ^ u64::from(colour.0 + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            })
    }

    /// Puts a marker on an empty cell.
    pub(crate) fn put_marker(&mut self, cell: Cell, owner: Seat) {
        let content = Content::marker(owner);
        self.content[usize::from(cell)] = content;
        self.markers_of[owner.index()].insert(cell);
        self.key ^= Self::simple_key(cell, content);
    }

    /// Takes the marker off `cell`.
    pub(crate) fn take_marker(&mut self, cell: Cell) {
        let content = self.content(cell);
        self.content[usize::from(cell)] = Content::EMPTY;
        self.markers_of[content.owner().index()].remove(cell);
        self.key ^= Self::simple_key(cell, content);
    }

    /// Collapses an empty cell.
    pub(crate) fn collapse(&mut self, cell: Cell, owner: Seat) {
        let content = Content::collapsed(owner);
        self.content[usize::from(cell)] = content;
        self.collapsed_of[owner.index()].insert(cell);
        self.key ^= Self::simple_key(cell, content);
    }

    /// Takes the stack off `cell`, which is then empty; no stack gives a stack of height 0.
    pub(crate) fn lift(&mut self, cell: Cell) -> Stack {
        let content = self.content(cell);
        if !content.is_stack() {
            return Stack::NONE;
        }
        self.key ^= self.stack_key(cell);
        self.content[usize::from(cell)] = Content::EMPTY;
        self.stacks_of[content.owner().index()].remove(cell);
        self.stack(cell)
    }

    /// Sets `stack` down on an empty cell; one of height 0 leaves it empty.
    pub(crate) fn set_down(&mut self, cell: Cell, stack: Stack) {
        if stack.height == 0 {
            return;
        }
        let controller = self.top_of(&stack);
        self.stacks[usize::from(cell)] = stack;
        self.content[usize::from(cell)] = Content::stack(controller);
        self.stacks_of[controller.index()].insert(cell);
        self.key ^= self.stack_key(cell);
    }

    #[inline]
    fn top_of(&self, stack: &Stack) -> Seat {
        Seat(self.pool.colour[usize::from(stack.top)])
    }

    /// Adds a ring on top of a lifted stack.
    pub(crate) fn push_top(&mut self, stack: &mut Stack, colour: Seat) {
        let same = stack.height > 0 && self.top_of(stack) == colour;
        stack.top = self.pool.take(colour, stack.top);
        if stack.height == 0 {
            stack.bottom = stack.top;
        }
        stack.height += 1;
        stack.cap = if same { stack.cap + 1 } else { 1 };
        self.rings_of[colour.index()] += 1;
    }

    /// Adds a ring under a lifted stack.
    pub(crate) fn push_bottom(&mut self, stack: &mut Stack, colour: Seat) {
        if stack.height == 0 {
            return self.push_top(stack, colour);
        }
        if stack.cap == stack.height && self.top_of(stack) == colour {
            stack.cap += 1;
        }
        let node = self.pool.take(colour, NIL);
        self.pool.below[usize::from(stack.bottom)] = node;
        stack.bottom = node;
        stack.height += 1;
        self.rings_of[colour.index()] += 1;
    }

    /// Removes the top ring of a lifted stack, which is not empty, and gives its colour.
    pub(crate) fn pop_top(&mut self, stack: &mut Stack) -> Seat {
        let node = stack.top;
        let colour = self.top_of(stack);
        stack.top = self.pool.below[usize::from(node)];
        stack.height -= 1;
        stack.cap -= 1;
        if stack.height == 0 {
            *stack = Stack::NONE;
        } else if stack.cap == 0 {
            stack.cap = self.cap_from(stack.top);
        }
        self.pool.give_back(node);
        self.rings_of[colour.index()] -= 1;
        colour
    }

    /// Removes the ring of `colour` nearest the bottom of a lifted stack; says whether there was one.
    pub(crate) fn extract(&mut self, stack: &mut Stack, colour: Seat) -> bool {
        let (mut found, mut above_found) = (NIL, NIL);
        let (mut node, mut above) = (stack.top, NIL);
        while node != NIL {
            if self.pool.colour[usize::from(node)] == colour.0 {
                (found, above_found) = (node, above);
            }
            above = node;
            node = self.pool.below[usize::from(node)];
        }
        if found == NIL {
            return false;
        }
        if above_found == NIL {
            self.pop_top(stack);
            return true;
        }
        let below = self.pool.below[usize::from(found)];
        self.pool.below[usize::from(above_found)] = below;
        if below == NIL {
            stack.bottom = above_found;
        }
        stack.height -= 1;
        stack.cap = self.cap_from(stack.top);
        self.pool.give_back(found);
        self.rings_of[colour.index()] -= 1;
        true
    }

    fn cap_from(&self, top: u16) -> u16 {
        let colour = self.pool.colour[usize::from(top)];
        let (mut node, mut cap) = (top, 0);
        while node != NIL && self.pool.colour[usize::from(node)] == colour {
            cap += 1;
            node = self.pool.below[usize::from(node)];
        }
        cap
    }

    /// The board with every cell moved to where `map` sends it.
    pub(crate) fn mapped(&self, geometry: &Geometry, map: &[Cell]) -> Self {
        let mut mapped = Self::new();
        for (cell, &to) in (0..geometry.cells() as Cell).zip(map) {
            let content = self.content(cell);
            match content.describe() {
                CellContent::Empty => {}
                CellContent::Marker(owner) => mapped.put_marker(to, owner),
                CellContent::Collapsed(owner) => mapped.collapse(to, owner),
                CellContent::Stack(_) => mapped.put_stack(to, self.rings(cell)),
            }
        }
        mapped
    }

    /// Builds a stack on an empty cell from its rings, top first.
    pub(crate) fn put_stack(&mut self, cell: Cell, rings: impl Iterator<Item = Seat>) {
        let mut stack = Stack::NONE;
        rings.for_each(|colour| self.push_bottom(&mut stack, colour));
        self.set_down(cell, stack);
    }
}

fn union<const WORDS: usize>(sets: &[BitSet<WORDS>; PLAYERS_MAX]) -> BitSet<WORDS> {
    sets[0] | sets[1] | sets[2] | sets[3]
}
