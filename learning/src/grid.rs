//! The padded grid on which our own CPU code computes: the board's square with an empty border, one after the other for
//! the positions of a chunk, so that a 3x3 window never has to ask whether it hangs over the edge.

use crate::frame::Frame;
use crate::kernels::Windows;

/// A frame with its border, for chunks of up to a fixed number of positions.
#[derive(Debug, Clone)]
pub(crate) struct Grid {
    frame: Frame,
    side: usize,
    centres: Vec<usize>,
}

impl Grid {
    /// The grid of `frame` for chunks of `chunk` positions.
    pub(crate) fn new(frame: &Frame, chunk: usize) -> Self {
        let side = frame.side() + 2;
        Self {
            frame: frame.clone(),
            side,
            centres: centres(frame, side, chunk),
        }
    }

    /// The frame without its border.
    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Grid cells of one position, border included.
    pub(crate) fn area(&self) -> usize {
        self.side * self.side
    }

    /// Real cells of one position.
    pub(crate) fn cells(&self) -> usize {
        self.frame.cells()
    }

    /// From a 3x3 window's first cell to its centre.
    pub(crate) fn corner(&self) -> usize {
        self.side + 1
    }

    /// The windows around every real cell of the first `positions` positions.
    pub(crate) fn windows(&self, positions: usize) -> Windows<'_> {
        Windows {
            centres: &self.centres[..positions * self.cells()],
            corner: self.corner(),
            cells: self.cells(),
        }
    }

    /// Grid cells of the position in `slot`, in the order of the board's cells.
    #[inline(always)]
    pub(crate) fn of(&self, slot: usize) -> &[usize] {
        &self.centres[slot * self.cells()..][..self.cells()]
    }

    /// The taps that connect neighbours, with their offsets from the window's corner.
    pub(crate) fn taps(&self) -> Vec<(usize, usize)> {
        let offsets = (0..3).flat_map(|row| (0..3).map(move |column| row * self.side + column));
        let live = self.frame.taps().into_iter().zip(offsets).enumerate();
        live.filter(|(_, (live, _))| *live)
            .map(|(tap, (_, offset))| (tap, offset))
            .collect()
    }

    /// The single tap of a 1x1 convolution.
    pub(crate) fn centre_tap(&self) -> [(usize, usize); 1] {
        [(0, self.corner())]
    }

    /// Writes `planes`, `[plane][side * side]`, channels-last into the slot's cells of `output`.
    #[inline(always)]
    pub(crate) fn scatter(&self, slot: usize, planes: &[f32], stride: usize, output: &mut [f32]) {
        for (plane, values) in planes.chunks_exact(self.frame.area()).enumerate() {
            for (&square, &centre) in self.frame.squares().iter().zip(self.of(slot)) {
                output[centre * stride + plane] = values[usize::from(square)];
            }
        }
    }
}

fn centres(frame: &Frame, side: usize, chunk: usize) -> Vec<usize> {
    let cell = |square: &u16| {
        let (row, column) = (
            usize::from(*square) / frame.side(),
            usize::from(*square) % frame.side(),
        );
        (row + 1) * side + column + 1
    };
    (0..chunk)
        .flat_map(|slot| {
            let start = slot * side * side;
            frame
                .squares()
                .iter()
                .map(move |square| start + cell(square))
        })
        .collect()
}
